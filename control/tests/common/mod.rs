//! A switch that holds its state and moves no frame, and a daemon around it, for the tests.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod memory;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use podswitch::daemon::Daemon;
use podswitch::server::Server;
use podswitch::store::Store;
use podswitch_api::state::{State, Switch};
use serde_json::Value;

use memory::Memory;

/// A directory of the test's own, removed at its end.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("podswitch-control-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running daemon; stopped when dropped.
pub struct Running {
    pub dir: Dir,
    /// The name of the daemon's thread.
    pub name: String,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<Memory>>,
}

impl Running {
    /// A daemon with an empty state.
    pub fn start() -> Running {
        Running::with(State::default(), Dir::new())
    }

    /// A daemon with this state, whose socket is in `dir`.
    pub fn with(mut state: State, dir: Dir) -> Running {
        let switch = Switch { socket: dir.socket(), ..state.switch_or_default() };
        state.switch = Some(switch.clone());
        let store = Store::new(&state);
        let state = store.as_ref().map_or(state.clone(), |s| s.load().unwrap());
        let server = Server::bind(&switch).unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let serve = move || {
            let mut backend = Memory::new(state);
            Daemon::new(server, &mut backend, store, stopped.as_fd()).unwrap().run().unwrap();
            backend
        };
        // The kernel shows 15 bytes of a thread's name: the end of the directory's is its own.
        let name = dir.0.to_str().unwrap().rsplit_once("control-").unwrap().1.to_owned();
        let thread = std::thread::Builder::new().name(name.clone()).spawn(serve).unwrap();
        Running { dir, name, stop: Some(stop), thread: Some(thread) }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.socket()
    }

    pub fn connect(&self) -> Raw {
        Raw::connect(&self.socket())
    }

    pub fn client(&self) -> podswitch_api::Client {
        podswitch_api::Client::connect(&self.socket()).unwrap()
    }

    /// Stops the daemon; its switch, and the directory, which the test may use again.
    pub fn stop(mut self) -> (Memory, Dir) {
        let memory = self.end().unwrap();
        let dir = std::mem::replace(&mut self.dir, Dir(PathBuf::from("/nonexistent")));
        (memory, dir)
    }

    fn end(&mut self) -> Option<Memory> {
        drop(self.stop.take());
        Some(self.thread.take()?.join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() && !std::thread::panicking() {
            self.end();
        }
    }
}

/// A client that sends what it likes.
pub struct Raw {
    pub stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Raw {
    pub fn connect(socket: &Path) -> Raw {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Raw { stream, reader }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The next answer, none at the end of the connection.
    pub fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            // Closed with input that nobody read.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(e) => panic!("{e}"),
        }
    }

    pub fn ask(&mut self, line: &str) -> Value {
        self.send(format!("{line}\n"));
        self.receive().unwrap()
    }

    /// A request without parameters that must succeed.
    pub fn works(&mut self) {
        let answer = self.ask(r#"{"jsonrpc":"2.0","id":"works","method":"status.get"}"#);
        assert_eq!(answer["id"], "works");
        assert!(answer["result"].is_object(), "{answer}");
    }
}

/// The code of an answer that is an error.
pub fn code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {answer}"))
}
