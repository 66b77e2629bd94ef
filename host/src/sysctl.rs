//! Kernel settings under `/proc/sys`, those under `net` being of the calling thread's network
//! namespace: use [`crate::Netns::run`] for another.
//!
//! Keys are paths, such as `net/ipv4/conf/eth0/rp_filter`: an interface name may have dots.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Reads a setting, without the newline at its end.
pub fn read(key: &str) -> Result<String> {
    match fs::read_to_string(path(key)) {
        Ok(value) => Ok(value.trim_end().to_owned()),
        Err(e) => Err(Error::io(format!("read the kernel setting {key}"), e)),
    }
}

/// Writes a setting.
pub fn write(key: &str, value: &str) -> Result<()> {
    fs::write(path(key), value)
        .map_err(|e| Error::io(format!("set the kernel setting {key} to {value}"), e))
}

/// Writes a setting unless it has the value already, so that a read-only `/proc/sys` (a
/// container) is no error where nothing needs to change. Says whether it wrote.
pub fn ensure(key: &str, value: &str) -> Result<bool> {
    if read(key)? == value {
        return Ok(false);
    }
    write(key, value)?;
    tracing::debug!(key, value, "kernel setting changed");
    Ok(true)
}

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.trim_start_matches('/'))
}
