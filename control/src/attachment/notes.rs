//! Notes of removals: what the runtime wanted removed while the daemon was down.
//!
//! The CNI plugin cannot reach the daemon then, and a removal must succeed all the same. It leaves a
//! file for each, `<socket>.pending/*.json` with an [`AttachmentId`], written under a name that begins
//! with a dot and renamed. Whoever may write there could have anything removed: the directory must be
//! the daemon's own user's, and closed to others.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use podswitch_api::attachment::AttachmentId;

/// The longest note, bytes.
const NOTE_MAX: u64 = 64 << 10;

/// The directory of the notes.
#[derive(Debug)]
pub struct Notes {
    dir: PathBuf,
}

/// A note.
#[derive(Debug, PartialEq, Eq)]
pub struct Note {
    /// What is to be removed.
    pub id: AttachmentId,
    path: PathBuf,
}

impl Notes {
    /// The notes beside a control socket.
    pub fn beside(socket: &Path) -> Notes {
        let mut dir = socket.as_os_str().to_owned();
        dir.push(".pending");
        Notes { dir: dir.into() }
    }

    /// The notes that are there. One that cannot be understood is removed, with a warning.
    pub fn read(&self) -> io::Result<Vec<Note>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let meta = fs::metadata(&self.dir)?;
        if meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(io::Error::other("others may write there: `chmod 0700` it"));
        }
        let mut notes = Vec::new();
        for path in entries.filter_map(|e| Some(e.ok()?.path())) {
            if path.extension().is_none_or(|e| e != "json") || is_hidden(&path) {
                continue;
            }
            match read_note(&path) {
                Ok(id) => notes.push(Note { id, path }),
                Err(e) => {
                    tracing::warn!("{}: no note of a removal: {e}", path.display());
                    let _ = fs::remove_file(&path);
                }
            }
        }
        notes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(notes)
    }

    /// Removes a note that was carried out.
    pub fn done(&self, note: &Note) {
        if let Err(e) = fs::remove_file(&note.path) {
            tracing::warn!("{}: {e}", note.path.display());
        }
    }
}

/// Not finished: still under its first name.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn read_note(path: &Path) -> io::Result<AttachmentId> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_file() || meta.len() > NOTE_MAX {
        return Err(io::Error::other("expected a small file"));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn notes_are_read_and_what_is_none_is_passed_over() {
        let dir = std::env::temp_dir().join(format!("podswitch-notes-{}", std::process::id()));
        let notes = Notes::beside(&dir.join("s.sock"));
        assert_eq!(notes.read().unwrap(), [], "no directory");
        fs::create_dir_all(&notes.dir).unwrap();
        fs::set_permissions(&notes.dir, fs::Permissions::from_mode(0o700)).unwrap();
        let id =
            AttachmentId { network: "n".into(), container_id: "c".into(), ifname: "eth0".into() };
        let text = serde_json::to_vec(&id).unwrap();
        fs::write(notes.dir.join("a.json"), &text).unwrap();
        fs::write(notes.dir.join(".b.json"), &text).unwrap();
        fs::write(notes.dir.join("c.json"), "{").unwrap();
        std::os::unix::fs::symlink("a.json", notes.dir.join("d.json")).unwrap();
        let read = notes.read().unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].id, id);
        notes.done(&read[0]);
        assert_eq!(notes.read().unwrap(), []);
        let left: Vec<_> =
            fs::read_dir(&notes.dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [".b.json"], "what is not finished stays");

        fs::set_permissions(&notes.dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(notes.read().unwrap_err().to_string().contains("others may write"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
