//! What was added over the API, kept across restarts.
//!
//! The configuration file is the operator's, the state file the daemon's. The configuration file
//! decides about `[switch]`, `[node]` and `[uplink]`, and about every object that it declares; the
//! state file adds the objects that it does not declare. So an object that was removed over the
//! API returns with a restart if the configuration file declares it, and an object that is taken
//! out of the configuration file stays away.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use podswitch_api::diff::Object;
use podswitch_api::state::{FdbEntry, Neighbor, Port, Route, Segment, State, Tunnel};

use crate::config::{self, ConfigError};

/// The state file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// What the configuration file declares.
    declared: State,
}

impl Store {
    /// The store of `[switch] state_file`, when there is one.
    pub fn new(declared: &State) -> Option<Store> {
        let path = declared.switch.as_ref()?.state_file.clone()?;
        Some(Store { path, declared: declared.clone() })
    }

    /// Where the state is kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state to start with: what is declared and what was kept. What was kept and no longer
    /// makes sense, because the configuration file changed or a pod's namespace is gone, is left
    /// out with a warning.
    pub fn load(&self) -> Result<State, ConfigError> {
        if !self.path.exists() {
            return Ok(self.declared.clone());
        }
        let mut kept = config::read_json(&self.path)?;
        kept.ports.retain(|port| match &port.netns {
            Some(netns) if !netns.exists() => {
                left_out(port, &format!("its network namespace {} is gone", netns.display()));
                false
            }
            _ => true,
        });
        let mut state = self.declared.clone();
        // In the order of dependency: routes need tunnels.
        merge::<Segment>(&mut state, kept.segments);
        merge::<Port>(&mut state, kept.ports);
        merge::<Tunnel>(&mut state, kept.tunnels);
        merge::<Route>(&mut state, kept.routes);
        merge::<Neighbor>(&mut state, kept.neighbors);
        merge::<FdbEntry>(&mut state, kept.fdb);
        Ok(state)
    }

    /// Keeps what `current` has beyond what is declared. Either the whole file is replaced, or
    /// nothing is.
    pub fn save(&self, current: &State) -> io::Result<()> {
        let kept = State {
            segments: beyond(current, &self.declared),
            ports: beyond(current, &self.declared),
            tunnels: beyond(current, &self.declared),
            routes: beyond(current, &self.declared),
            neighbors: beyond(current, &self.declared),
            fdb: beyond(current, &self.declared),
            ..State::default()
        };
        let mut text = serde_json::to_vec_pretty(&kept)?;
        text.push(b'\n');
        replace(&self.path, &text)
    }
}

fn beyond<'a, T: Object + 'a>(current: &'a State, declared: &'a State) -> Vec<T> {
    let declared: BTreeSet<T::Key<'a>> = T::list(declared).iter().map(T::key).collect();
    T::list(current).iter().filter(|o| !declared.contains(&o.key())).cloned().collect()
}

fn left_out<T: Object>(object: &T, why: &str) {
    tracing::warn!(
        "{} {:?} of the state file is left out: {why}",
        T::KIND,
        object.key().to_string()
    );
}

/// Adds the objects that are not declared and that make sense.
fn merge<T: Object>(state: &mut State, mut kept: Vec<T>) {
    let declared: BTreeSet<String> = T::list(state).iter().map(|o| o.key().to_string()).collect();
    kept.retain(|o| {
        let is_new = !declared.contains(&o.key().to_string());
        if !is_new {
            left_out(o, "the configuration file declares it");
        }
        is_new
    });
    let before = T::list(state).len();
    T::list_mut(state).extend(kept.iter().cloned());
    if state.validate().is_ok() {
        return;
    }
    // One at a time, so that one that makes no sense spoils no other.
    T::list_mut(state).truncate(before);
    for object in kept {
        T::list_mut(state).push(object);
        if let Err(errors) = state.validate()
            && let Some(object) = T::list_mut(state).pop()
        {
            left_out(&object, &errors[0].to_string());
        }
    }
}

/// Replaces a file as a whole: a crash leaves the old one or the new one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The rename itself is durable once the directory is.
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(value: serde_json::Value) -> State {
        serde_json::from_value(value).unwrap()
    }

    /// A directory of the test's own, removed at its end.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("podswitch-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn declared(dir: &Dir) -> State {
        state(json!({
            "switch": {"state_file": dir.0.join("sub/state.json")},
            "node": {"pod_cidrs": ["10.244.1.0/24"], "gateway": true},
            "uplink": {"dev": "uplink0"},
            "tunnel": [{"name": "node2", "kind": "ipip", "remote": "192.0.2.2"}],
            "route": [{"prefix": "10.244.2.0/24", "via": "node2"}]
        }))
    }

    #[test]
    fn objects_of_the_api_return_and_nothing_else() {
        let dir = Dir::new("store");
        let declared = declared(&dir);
        let store = Store::new(&declared).unwrap();
        assert_eq!(store.load().unwrap(), declared, "no file yet");

        let mut current = declared.clone();
        current.routes[0].via = "blackhole".into();
        current.routes.extend(
            state(json!({"route": [
            {"prefix": "10.9.0.0/16", "via": "node2"}]}))
            .routes,
        );
        current.node = None;
        store.save(&current).unwrap();
        assert_eq!(fs::read_dir(dir.0.join("sub")).unwrap().count(), 1, "no temporary file left");

        let loaded = store.load().unwrap();
        assert_eq!(loaded.node, declared.node, "the configuration file decides");
        assert_eq!(loaded.routes[0], declared.routes[0], "the configuration file decides");
        assert_eq!(loaded.routes[1], current.routes[1]);
        assert_eq!(loaded.routes.len(), 2);

        // The configuration file no longer declares the route: it does not return.
        let mut less = declared.clone();
        less.routes.clear();
        let loaded = Store::new(&less).unwrap().load().unwrap();
        assert_eq!(loaded.routes, current.routes[1..]);
    }

    #[test]
    fn what_no_longer_makes_sense_is_left_out_alone() {
        let dir = Dir::new("store-left-out");
        let declared = declared(&dir);
        let store = Store::new(&declared).unwrap();
        let mut current = declared.clone();
        let kept = state(json!({
            "port": [
                {"name": "gone", "netns": "/nonexistent/ns", "ifname": "eth0",
                 "ip": ["10.244.1.5/24"]},
                {"name": "here", "netns": "/proc/self/ns/net", "ifname": "eth0",
                 "ip": ["10.244.1.6/24"]}
            ],
            "neighbor": [
                {"ip": "10.244.1.7", "mac": "02:00:00:00:00:07", "port": "gone"},
                {"ip": "10.244.1.8", "mac": "02:00:00:00:00:08", "port": "here"}
            ]
        }));
        current.ports = kept.ports.clone();
        current.neighbors = kept.neighbors.clone();
        store.save(&current).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.ports, kept.ports[1..]);
        assert_eq!(loaded.neighbors, kept.neighbors[1..]);
        assert_eq!(loaded.validate(), Ok(()));
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let dir = Dir::new("store-damaged");
        let declared = declared(&dir);
        let store = Store::new(&declared).unwrap();
        store.save(&declared).unwrap();
        fs::write(store.path(), "{").unwrap();
        let e = store.load().unwrap_err().to_string();
        assert!(e.contains("sub/state.json:1:1: EOF while parsing"), "{e}");
    }
}
