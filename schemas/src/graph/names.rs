//! Names in a graph: their form, and the nearest known one to a mistyped one.

/// The longest name.
pub(super) const NAME_BYTES_MAX: usize = 63;

/// Why this cannot be a name, if so: `[a-z0-9][a-z0-9_-]*`, at most 63 bytes.
pub(super) fn fault(name: &str) -> Option<String> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if name.is_empty() {
        return Some("a name is empty".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        return Some(format!(
            "the name \"{}…\" is longer than {NAME_BYTES_MAX} characters",
            name.chars().take(16).collect::<String>()
        ));
    }
    let well_formed =
        ok(name.as_bytes()[0]) && name.bytes().all(|b| ok(b) || b == b'_' || b == b'-');
    (!well_formed).then(|| format!("\"{name}\" is not a name"))
}

/// The known name that `name` was probably meant to be.
pub(super) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 4 * NAME_BYTES_MAX {
        return None;
    }
    let lower = name.to_lowercase();
    let far = lower.chars().count().div_ceil(3).clamp(1, 3);
    let near = known
        .into_iter()
        .map(|known| (distance(&lower, &known.to_lowercase()), known));
    near.filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Edits (insert, delete, replace, swap of neighbours) from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}
