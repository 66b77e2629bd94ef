//! Files put in their place, and removed, in one step.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::super::out::Failure;

/// Makes `path` hold `bytes`, with the folders that it needs. A reader sees the old file or the new
/// one, whole; what runs the old one goes on. Says whether anything changed.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<bool, Failure> {
    let same = || -> io::Result<bool> {
        Ok(fs::read(path)? == bytes && fs::metadata(path)?.permissions().mode() & 0o777 == mode)
    };
    // What cannot be read is written again.
    if same().unwrap_or(false) {
        return Ok(false);
    }
    replace(path, bytes, mode).map_err(|e| failure("write", path, &e))?;
    Ok(true)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Hidden, and with an ending that no runtime reads.
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        // A file that is open for writing cannot be executed.
        drop(file);
        fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // Harmless where it is, and the error is told already.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Removes a file; says whether it was there.
pub fn remove(path: &Path) -> Result<bool, Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failure("remove", path, &e)),
    }
}

fn failure(verb: &str, path: &Path, e: &io::Error) -> Failure {
    let cure = match e.kind() {
        io::ErrorKind::PermissionDenied => ": run it as root, or name another folder",
        io::ErrorKind::ReadOnlyFilesystem => ": name another folder",
        _ => "",
    };
    let message = format!("cannot {verb} {}: {e}{cure}", path.display());
    match e.kind() {
        io::ErrorKind::PermissionDenied => Failure::Refused(podswitch_api::Error::new(
            podswitch_api::Code::PermissionDenied,
            message,
        )),
        _ => Failure::Runtime(message),
    }
}
