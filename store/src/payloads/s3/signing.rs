//! What requests are signed with (AWS Signature Version 4): HMAC and SHA-256, as the rest of the workspace has them.

use hmac::{Hmac, KeyInit as _, Mac as _};
use object_store::client::{
    CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
};
use object_store::{Error, Result};
use sha2::{Digest as _, Sha256};

#[derive(Debug)]
pub(super) struct Signing;

impl CryptoProvider for Signing {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(Sum {
                hash: Sha256::new(),
                sum: [0; 32],
            })),
            _ => Err(unknown()),
        }
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => {
                let mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| unknown())?;
                Ok(Box::new(Code { mac, code: [0; 32] }))
            }
            _ => Err(unknown()),
        }
    }

    /// Only Google's storage asks for it.
    fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> Result<Box<dyn Signer>> {
        Err(unknown())
    }
}

fn unknown() -> Error {
    Error::NotSupported {
        source: "a kind of signature that S3 does not use".into(),
    }
}

struct Sum {
    hash: Sha256,
    sum: [u8; 32],
}

impl DigestContext for Sum {
    fn update(&mut self, data: &[u8]) {
        self.hash.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.sum = self.hash.finalize_reset().into();
        Ok(&self.sum)
    }
}

struct Code {
    mac: Hmac<Sha256>,
    code: [u8; 32],
}

impl HmacContext for Code {
    fn update(&mut self, data: &[u8]) {
        self.mac.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.code = self.mac.clone().finalize().into_bytes().into();
        Ok(&self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2; FIPS 180-2, "abc".
    #[test]
    fn known_answers() {
        let mut mac = Signing
            .hmac(DigestAlgorithm::Sha256, b"Jefe")
            .expect("a context");
        mac.update(b"what do ya want ");
        mac.update(b"for nothing?");
        assert_eq!(
            hex::encode(mac.finish().expect("a code")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let mut sum = Signing.digest(DigestAlgorithm::Sha256).expect("a context");
        sum.update(b"abc");
        assert_eq!(
            hex::encode(sum.finish().expect("a sum")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
