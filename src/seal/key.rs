//! The key that a token is sealed with, and the bytes that come of it.
//!
//! A sealed token is [`MAGIC`], one byte for the version, the nonce, and the ciphertext with its tag at the end. The key
//! of the cipher is derived from the key file by HKDF-SHA-256.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice};
use thiserror::Error;

use crate::redact::Redactor;

/// A key of fewer bytes is none.
const SHORTEST: usize = 32;
/// A key file of more bytes is something else.
const LONGEST: usize = 4096;

/// What a sealed token begins with.
const MAGIC: &[u8] = b"runner token seal";
/// The form that is written, and the only one that is read.
const VERSION: u8 = 1;
const HEADER: usize = MAGIC.len() + 1;

/// Keeps the derived key apart from any other that somebody derives from the same file.
const SALT: &[u8] = b"runner/seal";
const INFO: &[u8] = b"runner/seal/token/chacha20-poly1305";

/// The key as its file has it. Not shown by anything, and zeroed when dropped.
#[derive(Clone)]
pub struct SealKey(SecretSlice<u8>);

/// Why a file is no key. Finishes "`RUNNER_SEAL_KEY_FILE` names FILE, ".
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It cannot be opened or read.
    #[error("which cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// A directory, a pipe, a device: some of them have no end.
    #[error("which is not a regular file")]
    NotAFile,
    /// Too short, white space at the end not counted.
    #[error("which has {0} bytes of key, and at least {SHORTEST} are needed")]
    TooShort(usize),
    /// Too long.
    #[error("which has more than {LONGEST} bytes")]
    TooLong,
}

/// Why bytes are not opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// Another version of the form than this program knows.
    OtherVersion(u8),
    /// Sealed by another key, or not as they were written: a cipher cannot tell the two apart.
    Refused,
}

impl SealKey {
    /// Reads a key file, links followed: a mounted secret is a link. White space at the end does not count, so that a
    /// key may be a line of text.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let file = OpenOptions::new()
            .read(true)
            // A pipe that nobody writes to would be waited for.
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(KeyFileError::NotAFile);
        }
        // Room for all of it: a buffer that moves leaves what it had behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
        file.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > LONGEST {
            return Err(KeyFileError::TooLong);
        }
        let key = bytes.trim_ascii_end();
        if key.len() < SHORTEST {
            return Err(KeyFileError::TooShort(key.len()));
        }
        Ok(Self(SecretSlice::from(key.to_vec())))
    }

    /// Tells the redactor of it.
    pub fn tell(&self, redactor: &Redactor) {
        redactor.add_bytes(self.0.expose_secret());
    }

    /// Seals under a nonce of its own. Fails where the system gives no random bytes.
    pub(super) fn seal(&self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        let random = SystemRandom::new().fill(&mut nonce);
        random.map_err(|_| io::Error::other("the system gives no random bytes"))?;
        let mut sealed = [MAGIC, &[VERSION], &nonce].concat();
        let mut text = Zeroizing::new(plain.to_vec());
        let tag = self
            .cipher()
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_separate_tag(nonce, Aad::from(&sealed[..HEADER]), &mut text)
            })
            // Only more bytes than any token has are refused.
            .map_err(|_| io::Error::other("the token is too long"))?;
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Gives back what was sealed, if every byte is as it was.
    pub(super) fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (header, rest) = sealed.split_at_checked(HEADER).ok_or(OpenError::Refused)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(OpenError::Refused)?;
        match header.strip_prefix(MAGIC) {
            Some([VERSION]) => {}
            Some([version]) => return Err(OpenError::OtherVersion(*version)),
            Some(_) | None => return Err(OpenError::Refused),
        }
        let mut text = Zeroizing::new(text.to_vec());
        let opened = self.cipher().and_then(|cipher| {
            let nonce = Nonce::try_assume_unique_for_key(nonce)?;
            let opened = cipher.open_in_place(nonce, Aad::from(header), &mut text);
            opened.map(|plain| plain.len())
        });
        let length = opened.map_err(|_| OpenError::Refused)?;
        text.truncate(length);
        Ok(text)
    }

    fn cipher(&self) -> Result<LessSafeKey, ring::error::Unspecified> {
        let derived = Salt::new(HKDF_SHA256, SALT).extract(self.0.expose_secret());
        let key = derived.expand(&[INFO], &CHACHA20_POLY1305)?;
        Ok(LessSafeKey::new(UnboundKey::from(key)))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn key(fill: u8) -> SealKey {
        SealKey(SecretSlice::from(vec![fill; SHORTEST]))
    }

    const TOKEN: &[u8] = b"ghs_canary0123456789";

    #[test]
    fn what_was_sealed_is_opened_by_its_key_alone() {
        let sealed = key(1).seal(TOKEN).unwrap();
        assert_eq!(key(1).open(&sealed).unwrap().as_slice(), TOKEN);
        assert_eq!(key(2).open(&sealed), Err(OpenError::Refused));
        assert!(
            !sealed
                .windows(4)
                .any(|window| TOKEN.windows(4).any(|part| part == window))
        );
    }

    #[test]
    fn the_same_is_never_sealed_to_the_same_bytes() {
        let nonce = |_| key(1).seal(TOKEN).unwrap()[HEADER..HEADER + NONCE_LEN].to_vec();
        let nonces: std::collections::BTreeSet<Vec<u8>> = (0..100).map(nonce).collect();
        assert_eq!(nonces.len(), 100);
    }

    #[test]
    fn no_byte_may_be_changed_and_none_may_be_missing() {
        let sealed = key(1).seal(TOKEN).unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut flipped = sealed.clone();
                flipped[at] ^= 1 << bit;
                assert!(key(1).open(&flipped).is_err(), "bit {bit} of byte {at}");
            }
            assert!(key(1).open(&sealed[..at]).is_err(), "cut at {at}");
        }
        assert!(key(1).open(&[&sealed[..], &[0]].concat()).is_err());
    }

    #[test]
    fn another_version_is_told_from_another_key() {
        let mut sealed = key(1).seal(TOKEN).unwrap();
        sealed[MAGIC.len()] = 2;
        assert_eq!(key(1).open(&sealed), Err(OpenError::OtherVersion(2)));
    }

    /// Made by another implementation of RFC 5869 and RFC 8439, from the module's description.
    #[test]
    fn a_file_of_version_1_is_opened_for_ever() {
        let sealed = "72756e6e657220746f6b656e207365616c01000102030405060708090a0bb65c1041d9971425c2aafab12a38ad62d6\
                      48b3979de999ac65d60afd99f43b70a5ee1399";
        assert_eq!(key(7).open(&hex::decode(sealed).unwrap()).unwrap().as_slice(), TOKEN);
    }

    fn read(content: &[u8]) -> Result<SealKey, KeyFileError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        SealKey::read(file.path())
    }

    #[test]
    fn a_key_is_32_to_4096_bytes_of_any_kind_without_the_white_space_at_its_end() {
        let bytes: Vec<u8> = (0..=255).cycle().take(LONGEST).map(|byte: u8| !byte).collect();
        let raw = read(&bytes).unwrap();
        assert_eq!(raw.0.expose_secret(), bytes);
        assert!(matches!(read(&[bytes, vec![1]].concat()), Err(KeyFileError::TooLong)));
        let line = read(&[&[b'k'; 32][..], b" \t\r\n"].concat()).unwrap();
        assert_eq!(line.0.expose_secret(), [b'k'; 32]);
        for short in [
            &b""[..],
            &[b'k'; 31],
            &[b' '; 100],
            b"0123456789012345678901234567890\n",
        ] {
            assert!(matches!(read(short), Err(KeyFileError::TooShort(..32))), "{short:?}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once_and_a_link_to_one_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [dir.path(), &fifo, Path::new("/dev/zero"), Path::new("/dev/null")] {
            assert!(matches!(SealKey::read(path), Err(KeyFileError::NotAFile)), "{path:?}");
        }
        assert!(matches!(
            SealKey::read(&dir.path().join("missing")),
            Err(KeyFileError::Unreadable(_))
        ));
        fs::create_dir(dir.path().join("..data")).unwrap();
        fs::write(dir.path().join("..data/key"), [b'k'; 32]).unwrap();
        std::os::unix::fs::symlink("..data/key", dir.path().join("key")).unwrap();
        assert!(SealKey::read(&dir.path().join("key")).is_ok());
    }

    #[test]
    fn a_key_is_not_shown_by_accident() {
        assert_eq!(format!("{:?}", key(b'k')), "[redacted]");
    }
}
