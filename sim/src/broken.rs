//! Deliberately broken variants: what the simulation must catch, or it proves nothing. Each breaks the port around the true
//! lane or one rule of the cluster, never the lane itself.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// Nothing is broken.
    #[default]
    None,
    /// The offsets are committed in a transaction of their own, before the outputs.
    OffsetsOutside,
    /// After an abort the lane reads on where it was.
    NoSeek,
    /// A commit whose outcome is not known is followed by an abort, with the same producer.
    AbortUncertain,
    /// A commit that returned Ok counts, whatever happened on the way.
    TrustOk,
    /// An abort that returned Ok counts, whatever happened on the way.
    TrustAbort,
    /// Records that were not acknowledged are forgotten; their positions are committed.
    OutputsForgotten,
    /// The lane is not told of partitions that leave, and commits for them under the new generation.
    RevokedKept,
    /// The group's metadata is taken once, when the lane joins.
    StaleMetadata,
    /// Offsets go without the group's metadata.
    NoMetadata,
    /// Open and aborted records are read.
    ReadUncommitted,
    /// Committed offsets are read past those that are still pending.
    Unstable,
}

impl Variant {
    pub const ALL: [Self; 11] = [
        Self::OffsetsOutside,
        Self::NoSeek,
        Self::AbortUncertain,
        Self::TrustOk,
        Self::TrustAbort,
        Self::OutputsForgotten,
        Self::RevokedKept,
        Self::StaleMetadata,
        Self::NoMetadata,
        Self::ReadUncommitted,
        Self::Unstable,
    ];
}
