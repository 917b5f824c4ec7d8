//! The node's own key, with which it signs how far its chains have come.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use serde::{Deserialize, Serialize};

use crate::domain::{Link, Timestamp};
use crate::store::{ChainHead, Checkpoint, Removal};

/// In the data directory: 32 bytes in base64, readable by its owner alone. A file that is replaced or removed is a key that
/// is rotated: the old checkpoints stay valid under the public key that stands in them.
const FILE: &str = "audit_signing.key";

/// Signs checkpoints with Ed25519.
pub struct Signer(Ed25519KeyPair);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// Reads the key in `data_dir`, or makes one.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds no key.
    pub fn open(data_dir: &Path) -> std::io::Result<Self> {
        let path = data_dir.join(FILE);
        let seed = match std::fs::read_to_string(&path) {
            Ok(text) => BASE64_STANDARD.decode(text.trim()).map_err(|_| invalid(&path))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut seed = vec![0; 32];
                SystemRandom::new().fill(&mut seed).map_err(|_| std::io::Error::other("no random numbers"))?;
                let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                file.write_all(BASE64_STANDARD.encode(&seed).as_bytes())?;
                file.sync_all()?;
                seed
            }
            Err(error) => return Err(error),
        };
        Ed25519KeyPair::from_seed_unchecked(&seed).map(Self).map_err(|_| invalid(&path))
    }

    /// 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    #[must_use]
    pub fn sign(&self, org_id: uuid::Uuid, head: ChainHead, signed_at: Timestamp) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            org_id,
            node: head.node,
            link: head.link,
            signed_at,
            public_key: self.public_key().to_vec(),
            signature: Vec::new(),
        };
        checkpoint.signature = self.0.sign(&checkpoint.signed_bytes()).as_ref().to_vec();
        checkpoint
    }

    /// With this node's key and its signature.
    #[must_use]
    pub fn sign_removal(&self, removal: Removal) -> Removal {
        let signature = self.0.sign(&removal.signed_bytes()).as_ref().to_vec();
        Removal { public_key: self.public_key().to_vec(), signature, ..removal }
    }
}

/// A checkpoint as it is shown and kept elsewhere; bytes are in base64.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedCheckpoint {
    /// The nil UUID: rows without an organization.
    pub org_id: uuid::Uuid,
    pub node: String,
    /// The place in the stream of the row that has `hash`.
    pub seq: i64,
    /// SHA-256.
    pub hash: String,
    pub signed_at: Timestamp,
    /// Ed25519.
    pub public_key: String,
    pub signature: String,
}

impl From<Checkpoint> for SignedCheckpoint {
    fn from(point: Checkpoint) -> Self {
        Self {
            org_id: point.org_id,
            node: point.node.to_string(),
            seq: point.link.seq,
            hash: BASE64_STANDARD.encode(point.link.hash),
            signed_at: point.signed_at,
            public_key: BASE64_STANDARD.encode(point.public_key),
            signature: BASE64_STANDARD.encode(point.signature),
        }
    }
}

impl TryFrom<SignedCheckpoint> for Checkpoint {
    type Error = String;

    fn try_from(shown: SignedCheckpoint) -> Result<Self, String> {
        let bytes = |name: &str, text: &str| BASE64_STANDARD.decode(text).map_err(|_| format!("`{name}` is no base64"));
        let hash = bytes("hash", &shown.hash)?.try_into().map_err(|_| "`hash` has not 32 bytes".to_owned())?;
        Ok(Self {
            org_id: shown.org_id,
            node: shown.node.into(),
            link: Link { seq: shown.seq, hash },
            signed_at: shown.signed_at,
            public_key: bytes("public_key", &shown.public_key)?,
            signature: bytes("signature", &shown.signature)?,
        })
    }
}

/// Whether the key that a checkpoint names has signed it.
#[must_use]
pub fn is_signed(checkpoint: &Checkpoint) -> bool {
    holds(&checkpoint.public_key, &checkpoint.signed_bytes(), &checkpoint.signature)
}

/// Whether the key that the record of a removal names has signed it.
#[must_use]
pub fn is_removal_signed(removal: &Removal) -> bool {
    holds(&removal.public_key, &removal.signed_bytes(), &removal.signature)
}

fn holds(key: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(bytes, signature).is_ok()
}

fn invalid(path: &Path) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{} holds no Ed25519 key", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_signs_every_field() {
        let dir = tempfile::tempdir().unwrap();
        let first = Signer::open(dir.path()).unwrap();
        let again = Signer::open(dir.path()).unwrap();
        assert_eq!(first.public_key(), again.public_key());
        let head =
            ChainHead { node: "n".into(), link: Link { seq: 7, hash: [3; 32] }, since: Timestamp::from_micros(0) };
        let good = again.sign(uuid::Uuid::nil(), head, Timestamp::from_micros(9));
        assert!(is_signed(&good));
        let changes: [fn(&mut Checkpoint); 6] = [
            |point| point.org_id = uuid::Uuid::max(),
            |point| point.node = "m".into(),
            |point| point.link.seq = 6,
            |point| point.link.hash = [4; 32],
            |point| point.signed_at = Timestamp::from_micros(10),
            |point| point.public_key = vec![1; 32],
        ];
        for change in changes {
            let mut changed = good.clone();
            change(&mut changed);
            assert!(!is_signed(&changed), "{changed:?}");
        }
        std::fs::write(dir.path().join(FILE), "no key").unwrap();
        assert!(Signer::open(dir.path()).is_err());
    }
}
