//! Notes to a daemon that is down: attachments that it has to remove when it returns.
//!
//! A note is a file in the folder `<socket>.pending`, named by what it says, that holds an
//! [`AttachmentId`] as JSON. The daemon carries out and removes the notes when it starts, before it
//! serves anybody, and looks for new ones while it runs.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use podswitch_api::attachment::AttachmentId;

/// The folder of the notes to the daemon of `socket`.
pub fn folder(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".pending");
    name.into()
}

/// A note that was left.
#[derive(Debug)]
pub struct Note {
    path: PathBuf,
}

impl Note {
    /// Leaves a note, atomically and durably: it is there whole, or not at all.
    pub fn leave(socket: &Path, id: &AttachmentId) -> io::Result<Note> {
        let folder = folder(socket);
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent)?;
        }
        // The daemon trusts only what nobody else can write.
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let name = file_name(id);
        let path = folder.join(&name);
        // Other calls, also for this attachment, may be writing theirs.
        let draft = folder.join(format!(".{name}.{}", std::process::id()));
        let written = (|| {
            let mut file = File::create(&draft)?;
            file.write_all(&serde_json::to_vec(id)?)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&folder)?.sync_all()
        })();
        if written.is_err() {
            // Without a name that counts it means nothing to the daemon.
            let _ = fs::remove_file(&draft);
        }
        written.map(|()| Note { path })
    }

    /// Takes the note back: what it asks for was done.
    pub fn withdraw(self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            // The daemon was faster.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// A name that no other attachment has: its parts have no `@`, and together fit a file's name
/// unless the runtime's or the operator's are very long; those are cut, and told apart by a hash.
fn file_name(id: &AttachmentId) -> String {
    let whole = format!("{}@{}@{}", id.network, id.container_id, id.ifname.replace('@', "@@"));
    if whole.len() <= 200 {
        return format!("{whole}.json");
    }
    let short: String = whole.chars().take(180).collect();
    format!("{short}@{:016x}.json", fnv1a(whole.as_bytes()))
}

/// FNV-1a, 64 bits: the same in every build, unlike the standard library's.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn id(container_id: &str) -> AttachmentId {
        AttachmentId {
            network: "net".to_owned(),
            container_id: container_id.to_owned(),
            ifname: "eth0".to_owned(),
        }
    }

    #[test]
    fn a_note_is_left_read_and_withdrawn() {
        let place = std::env::temp_dir().join(format!("podswitch-cni-note-{}", std::process::id()));
        let socket = place.join("sub/podswitch.sock");
        let note = Note::leave(&socket, &id("c1")).unwrap();
        let again = Note::leave(&socket, &id("c1")).unwrap();
        let other = Note::leave(&socket, &id("c2")).unwrap();
        let folder = folder(&socket);
        let mut files: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|f| f.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["net@c1@eth0.json", "net@c2@eth0.json"]);
        let read: AttachmentId =
            serde_json::from_slice(&fs::read(folder.join("net@c1@eth0.json")).unwrap()).unwrap();
        assert_eq!(read, id("c1"));
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        for note in [note, again, other] {
            note.withdraw().unwrap();
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn long_names_fit_and_differ() {
        let (a, b) = (file_name(&id(&"a".repeat(300))), file_name(&id(&"a".repeat(301))));
        assert_ne!(a, b);
        assert!(a.len() < 255, "{}", a.len());
    }
}
