//! Making an archive: its files are looked at first, so that the manifest comes before them, and then streamed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use zstd::stream::write::Encoder;

use super::manifest::{LeftOut, Listed, Manifest};
use super::{FILES_LIMIT, MANIFEST, TOTAL_LIMIT};

/// Of zstd: its default, since this is done once.
const LEVEL: i32 = 3;
/// So much is read at once.
const CHUNK: usize = 128 * 1024;

/// A file that is to be in an archive, as it was when it was looked at: what is appended to it later is not in it.
#[derive(Debug)]
pub struct Piece {
    listed: Listed,
    file: File,
}

/// What an archive is made of.
#[derive(Debug, Default)]
pub struct Contents {
    pieces: Vec<Piece>,
    left_out: Vec<LeftOut>,
    total: u64,
    given_up: Arc<AtomicBool>,
}

/// An archive that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

impl Contents {
    /// Nothing yet. Once `given_up` is set, reading and writing end with an error: nobody waits for it any more.
    pub fn new(given_up: Arc<AtomicBool>) -> Self {
        Self {
            given_up,
            ..Self::default()
        }
    }

    /// Takes in a file by its path; one that is not there is left out without a word.
    pub fn take(&mut self, name: &str, path: &Path) -> io::Result<()> {
        // A FIFO in its place is not waited for.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        match opened {
            Ok(file) if file.metadata()?.is_file() => self.take_file(name, file),
            Ok(_) => {
                self.leave_out(name, "it is no plain file");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => {
                self.leave_out(name, &format!("it cannot be opened: {error}"));
                Ok(())
            }
        }
    }

    /// Takes in a file that is open, from its beginning to where it ends now.
    pub fn take_file(&mut self, name: &str, file: File) -> io::Result<()> {
        let bytes = file.metadata()?.len();
        if bytes > TOTAL_LIMIT - self.total {
            let limit = TOTAL_LIMIT / (1024 * 1024);
            self.leave_out(
                name,
                &format!("with its {bytes} bytes the archive would be over {limit} MiB"),
            );
            return Ok(());
        }
        if self.pieces.len() + 1 >= FILES_LIMIT {
            self.leave_out(name, &format!("an archive has {FILES_LIMIT} files at most"));
            return Ok(());
        }
        let mut hash = Sha256::new();
        let read = io::copy(&mut self.reader(&file, bytes), &mut HashInto(&mut hash))?;
        if read != bytes {
            self.leave_out(name, "it became shorter while it was read");
            return Ok(());
        }
        self.total += bytes;
        let listed = Listed {
            path: name.to_owned(),
            bytes,
            sha256: hex::encode(hash.finalize()),
        };
        self.pieces.push(Piece { listed, file });
        Ok(())
    }

    /// Says that something is not in it, and why.
    pub fn leave_out(&mut self, name: &str, why: &str) {
        self.left_out.push(LeftOut {
            path: name.to_owned(),
            why: why.to_owned(),
        });
    }

    /// What is not in it.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Writes the archive, with the manifest first. `about` is the manifest without its lists, `at_s` the time that each
    /// entry has, in seconds since 1970.
    pub fn write(self, about: Manifest, at_s: u64, out: &mut File) -> io::Result<Bundle> {
        let manifest = Manifest {
            files: self.pieces.iter().map(|piece| piece.listed.clone()).collect(),
            left_out: self.left_out.clone(),
            ..about
        };
        let manifest = serde_json::to_vec_pretty(&manifest)?;
        out.set_len(0)?;
        out.rewind()?;
        let counted = Counted {
            inner: io::BufWriter::new(out),
            bytes: 0,
            hash: Sha256::new(),
        };
        let mut encoder = Encoder::new(counted, LEVEL)?;
        encoder.include_checksum(true)?;
        let mut tar = Builder::new(encoder);
        append(&mut tar, MANIFEST, manifest.len() as u64, at_s, manifest.as_slice())?;
        for Piece { listed, file } in &self.pieces {
            // What is cut off later does not take with it what came before.
            tar.get_mut().flush()?;
            append(
                &mut tar,
                &listed.path,
                listed.bytes,
                at_s,
                self.reader(file, listed.bytes),
            )?;
        }
        let mut counted = tar.into_inner()?.finish()?;
        counted.flush()?;
        Ok(Bundle {
            bytes: counted.bytes,
            sha256: hex::encode(counted.hash.finalize()),
        })
    }

    /// Reads so many bytes of a file from its beginning.
    fn reader<'a>(&'a self, file: &'a File, bytes: u64) -> impl Read + 'a {
        let whole = FromItsBeginning {
            file,
            at: 0,
            given_up: &self.given_up,
        };
        io::BufReader::with_capacity(CHUNK, whole.take(bytes))
    }
}

fn append(tar: &mut Builder<impl Write>, name: &str, bytes: u64, at_s: u64, mut from: impl Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(at_s);
    header.set_size(bytes);
    // A file that became shorter since it was looked at would break every entry after it.
    let mut counted = Exactly {
        from: &mut from,
        left: bytes,
    };
    tar.append_data(&mut header, name, &mut counted)
}

/// Reads by position: the file may be somebody else's too.
struct FromItsBeginning<'a> {
    file: &'a File,
    at: u64,
    given_up: &'a AtomicBool,
}

impl Read for FromItsBeginning<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given_up.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Fails where less comes than was said.
struct Exactly<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(into)?;
        if count == 0 && self.left > 0 && !into.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a file became shorter while it was archived",
            ));
        }
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

/// Hashes and counts what goes through.
struct Counted<W> {
    inner: W,
    bytes: u64,
    hash: Sha256,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.bytes += count as u64;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct HashInto<'a>(&'a mut Sha256);

impl Write for HashInto<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
