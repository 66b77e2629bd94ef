//! The log of attachments: what survives the daemon.
//!
//! A line for each change: the CRC-32 of the rest in eight hexadecimal digits, a space, a record in
//! JSON. Lines are only appended, and are on the disk before the change is confirmed, so that a change
//! costs the same however many attachments there are. When most of the lines are out of date, the log
//! is written anew beside the old one, which it then replaces in one step.
//!
//! A crash leaves at most a part of the last line: what was never confirmed. Reading leaves out lines
//! whose checksum does not fit and tells how many; the log is written anew then, before anything is
//! appended to a torn line.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use podswitch_api::attachment::AttachmentId;
use serde::{Deserialize, Serialize};

use super::Entry;
use crate::ipam::Memory;

/// Lines beyond twice those that are needed, after which the log is written anew.
const SLACK: usize = if cfg!(test) { 4 } else { 256 };

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// An attachment was added.
    Add(Box<Entry>),
    /// An attachment was removed.
    Del(AttachmentId),
    /// What the address pools remembered when the log was written anew.
    Pool(Memory),
}

/// The log, open for appending.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Option<File>,
    /// Bytes of whole lines.
    len: u64,
    /// How many lines there are.
    lines: usize,
}

/// What was read from a log.
#[derive(Debug, Default)]
pub struct Content {
    /// The records, in their order.
    pub records: Vec<Record>,
    /// How many lines could not be read.
    pub damaged: usize,
}

impl Log {
    /// A log that nothing was read from, and nothing is written to before [`Log::rewrite`].
    pub fn at(path: PathBuf) -> Log {
        Log { path, file: None, len: 0, lines: 0 }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is there; nothing, where there is no file yet.
    pub fn read(&self) -> io::Result<Content> {
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(mut file) => file.read_to_end(&mut bytes)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
            Err(e) => return Err(e),
        };
        Ok(decode(&bytes))
    }

    /// Replaces the log by these records, or leaves the old one.
    pub fn rewrite(&mut self, records: &[Record]) -> io::Result<()> {
        let mut temporary = self.path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let dir = self.path.parent().filter(|d| !d.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let text = encode(records)?;
        let mut file = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|file| file.set_len(0).map(|()| file))?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        // The rename itself is durable once the directory is.
        File::open(dir)?.sync_all()?;
        self.file = Some(file);
        (self.len, self.lines) = (text.len() as u64, records.len());
        Ok(())
    }

    /// Appends records, all or none; they are on the disk when this returns.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let text = encode(records)?;
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the log could not be written before"));
        };
        match file.write_all(&text).and_then(|()| file.sync_data()) {
            Ok(()) => {
                self.len += text.len() as u64;
                self.lines += records.len();
                Ok(())
            }
            Err(e) => {
                // Half a line would spoil the next one; if it cannot be cut off, nothing more is
                // written until the log is written anew.
                if file.set_len(self.len).and_then(|()| file.sync_data()).is_err() {
                    self.file = None;
                }
                Err(e)
            }
        }
    }

    /// Whether it is time to write the log anew, `needed` being the lines that it would have.
    pub fn is_wasteful(&self, needed: usize) -> bool {
        self.file.is_none() || self.lines > 2 * needed + SLACK
    }
}

fn encode(records: &[Record]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    for record in records {
        let json = serde_json::to_vec(record)?;
        write!(out, "{:08x} ", crc32fast::hash(&json))?;
        out.extend_from_slice(&json);
        out.push(b'\n');
    }
    Ok(out)
}

fn decode(bytes: &[u8]) -> Content {
    let mut content = Content::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|&b| b == b'\n');
        let line = &rest[..end.unwrap_or(rest.len())];
        // What has no end was torn off.
        match end.and_then(|_| decode_line(line)) {
            Some(record) => content.records.push(record),
            None => content.damaged += 1,
        }
        rest = end.map_or(&[], |end| &rest[end + 1..]);
    }
    content
}

fn decode_line(line: &[u8]) -> Option<Record> {
    let (sum, json) = (line.get(..8)?, line.get(9..)?);
    let sum = u32::from_str_radix(str::from_utf8(sum).ok()?, 16).ok()?;
    if sum != crc32fast::hash(json) || line[8] != b' ' {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn del(container: &str) -> Record {
        Record::Del(AttachmentId {
            network: "n".into(),
            container_id: container.into(),
            ifname: "eth0".into(),
        })
    }

    #[test]
    fn a_damaged_line_takes_no_other_with_it() {
        let records = [del("a"), del("b"), del("c")];
        let text = encode(&records).unwrap();
        let whole = decode(&text);
        assert_eq!((&whole.records[..], whole.damaged), (&records[..], 0));
        for at in 0..text.len() {
            let mut bytes = text.clone();
            bytes[at] ^= 0x01;
            let read = decode(&bytes);
            // A newline that is gone, or one too many, spoils its neighbour too.
            assert!(read.records.len() >= records.len() - 2, "byte {at}");
            assert!(read.damaged >= 1, "byte {at}");
            assert!(read.records.iter().all(|r| records.contains(r)), "byte {at}");
        }
        for len in 0..text.len() {
            let read = decode(&text[..len]);
            assert_eq!(read.records, records[..read.records.len()], "{len} bytes");
        }
    }
}
