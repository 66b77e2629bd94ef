//! Installing into folders of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::*;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("podswitch-{name}-{}", std::process::id()));
        // Of a run that was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn places(&self) -> Places {
        Places {
            bin_dir: self.0.join("bin"),
            conf_dir: self.0.join("net.d"),
            name: "10-podswitch.conflist".to_owned(),
        }
    }

    fn install(&self) -> Install {
        let binary = self.0.join("built");
        fs::write(&binary, "plugin").unwrap();
        Install { places: self.places(), binary: Some(binary), without_portmap: false }
    }

    /// A portmap that speaks these versions.
    fn portmap(&self, versions: &str) {
        let path = self.places().bin_dir.join(PORTMAP);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\necho '{{\"supportedVersions\":{versions}}}'\n"))
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn conf(&self) -> Value {
        serde_json::from_slice(&fs::read(self.places().conf()).unwrap()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn default() -> &'static Path {
    Path::new(DEFAULT_SOCKET)
}

#[track_caller]
fn refused(result: Result<Done, Failure>) -> String {
    match result.unwrap_err() {
        Failure::Runtime(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn installed_twice_and_uninstalled_twice() {
    let folder = Folder::new("cni-twice");
    folder.portmap(r#"["0.4.0","1.0.0"]"#);
    let done = folder.install().run(default()).unwrap();
    assert!(done.binary.changed && done.conf.changed && done.notes.is_empty());
    let mode = fs::metadata(folder.places().binary()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    let conf = folder.conf();
    assert_eq!(conf["cniVersion"], "1.0.0", "portmap speaks no newer one");
    assert_eq!(conf["plugins"][0]["type"], PLUGIN);
    assert_eq!(conf["plugins"][1]["type"], PORTMAP);
    assert_eq!(conf["plugins"][0].get("socket"), None);
    let again = folder.install().run(default()).unwrap();
    assert!(!again.binary.changed && !again.conf.changed);

    let uninstall = || Uninstall { places: folder.places(), keep_binary: false }.run().unwrap();
    let done = uninstall();
    assert!(done.binary.changed && done.conf.changed);
    assert!(!folder.places().conf().exists() && !folder.places().binary().exists());
    assert!(folder.places().bin_dir.join(PORTMAP).exists(), "another's plugin stays");
    let again = uninstall();
    assert!(!again.binary.changed && !again.conf.changed);
}

/// A runtime that reads a configuration must find the plugin that it names.
#[test]
fn the_plugin_stays_while_a_configuration_names_it() {
    let folder = Folder::new("cni-two");
    folder.portmap(r#"["1.0.0"]"#);
    folder.install().run(default()).unwrap();
    let places = || Places { name: "20-other.conflist".to_owned(), ..folder.places() };
    Install { places: places(), ..folder.install() }.run(default()).unwrap();
    let done = Uninstall { places: folder.places(), keep_binary: false }.run().unwrap();
    assert!(done.conf.changed && !done.binary.changed);
    assert!(done.notes[0].contains("20-other.conflist"), "{:?}", done.notes);
    assert!(places().binary().exists() && places().conf().exists());
    // As operators write it who come from the bridge plugin.
    fs::remove_file(places().conf()).unwrap();
    let plain = folder.places().conf_dir.join("30-plain.conf");
    fs::write(&plain, r#"{"name":"x","type":"podswitch-cni"}"#).unwrap();
    let done = Uninstall { places: places(), keep_binary: false }.run().unwrap();
    assert!(!done.binary.changed && done.notes[0].contains("30-plain.conf"), "{:?}", done.notes);
    fs::remove_file(&plain).unwrap();
    let done = Uninstall { places: places(), keep_binary: false }.run().unwrap();
    assert!(done.binary.changed && done.notes.is_empty());
}

#[test]
fn the_version_is_the_newest_that_both_speak_and_the_socket_is_told() {
    let folder = Folder::new("cni-version");
    folder.portmap(r#"["1.0.0","1.1.0"]"#);
    folder.install().run(Path::new("/run/other.sock")).unwrap();
    assert_eq!(folder.conf()["cniVersion"], "1.1.0");
    assert_eq!(folder.conf()["plugins"][0]["socket"], "/run/other.sock");
    folder.portmap(r#"["0.2.0"]"#);
    assert!(refused(folder.install().run(default())).contains("speaks neither 1.1.0 nor 1.0.0"));
    folder.portmap("garbage'; exit 1; echo '");
    assert!(refused(folder.install().run(default())).contains("does not tell its versions"));
}

#[test]
fn what_is_missing_is_named_and_nothing_is_left() {
    let folder = Folder::new("cni-missing");
    let message = refused(folder.install().run(default()));
    assert!(message.contains("--without-portmap"), "{message}");
    assert!(!folder.places().binary().exists() && !folder.places().conf().exists());
    let mut install = folder.install();
    install.binary = Some(folder.0.join("no-such-file"));
    let message = refused(install.run(default()));
    assert!(message.contains("make build") && message.contains("--binary"), "{message}");

    let without = Install { without_portmap: true, ..folder.install() };
    without.run(default()).unwrap();
    assert_eq!(folder.conf()["plugins"].as_array().unwrap().len(), 1);
}

#[test]
fn another_ones_configuration_is_left_alone() {
    let folder = Folder::new("cni-other");
    folder.portmap(r#"["1.0.0"]"#);
    let conf = folder.places().conf();
    fs::create_dir_all(conf.parent().unwrap()).unwrap();
    fs::write(&conf, r#"{"name":"x","plugins":[{"type":"bridge"}]}"#).unwrap();
    assert!(refused(folder.install().run(default())).contains("is not podswitch's"));
    let uninstall = Uninstall { places: folder.places(), keep_binary: false };
    assert!(refused(uninstall.run()).contains("is not podswitch's"));
    assert!(conf.exists());
    fs::remove_file(&conf).unwrap();

    fs::write(folder.places().conf_dir.join("05-other.conf"), "{}").unwrap();
    let done = folder.install().run(default()).unwrap();
    assert!(done.notes[0].contains("05-other.conf"), "{:?}", done.notes);
}

#[test]
fn names_that_runtimes_read() {
    assert!(conf_name("10-podswitch.conflist").is_ok());
    for name in ["a.conf", ".conflist", "a/b.conflist", ".a.conflist", ""] {
        assert!(conf_name(name).is_err(), "{name:?}");
    }
}
