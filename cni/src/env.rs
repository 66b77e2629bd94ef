//! The parameters of a call: the `CNI_…` variables (section 2, "Parameters").

use std::ffi::OsString;
use std::path::PathBuf;

use podswitch_api::attachment::AttachmentId;

use crate::error::{Code, Error};
use crate::version::Version;

/// The longest interface name, bytes (`IFNAMSIZ` less the terminating zero).
const IFNAME_MAX: usize = 15;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Plug a container in.
    Add,
    /// Unplug it.
    Del,
    /// Compare what is with what should be.
    Check,
    /// Remove what is not in the list of those that are left.
    Gc,
    /// Tell whether ADD would work.
    Status,
    /// Tell the versions.
    Version,
}

impl Command {
    /// Every command.
    pub const ALL: [Command; 6] = [
        Command::Add,
        Command::Del,
        Command::Check,
        Command::Gc,
        Command::Status,
        Command::Version,
    ];

    /// As `CNI_COMMAND` says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    /// The first version of the specification that has it.
    pub const fn since(self) -> Version {
        match self {
            Command::Add | Command::Del | Command::Version => Version::V0_3_1,
            Command::Check => Version::V0_4_0,
            Command::Gc | Command::Status => Version::V1_1_0,
        }
    }
}

/// The parameters that a runtime gives in the environment, as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`; empty when it is not given.
    pub netns: PathBuf,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// `CNI_PATH`: where the delegated plugins are.
    pub path: Vec<PathBuf>,
    /// `PODSWITCH_SOCKET`, which a key of the configuration overrides.
    pub socket: Option<PathBuf>,
}

impl Environment {
    /// Reads the variables through `get`, such as [`std::env::var_os`].
    ///
    /// # Errors
    /// [`Code::InvalidEnvironment`] for what is no text.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Environment, Error> {
        let text = |name: &str| match get(name).unwrap_or_default().into_string() {
            Ok(text) => Ok(text),
            Err(_) => Err(invalid(name, "expected UTF-8")),
        };
        let path = get("CNI_PATH").unwrap_or_default();
        Ok(Environment {
            command: text("CNI_COMMAND")?,
            container_id: text("CNI_CONTAINERID")?,
            netns: get("CNI_NETNS").unwrap_or_default().into(),
            ifname: text("CNI_IFNAME")?,
            args: text("CNI_ARGS")?,
            path: std::env::split_paths(&path).filter(|p| !p.as_os_str().is_empty()).collect(),
            socket: get("PODSWITCH_SOCKET").filter(|s| !s.is_empty()).map(PathBuf::from),
        })
    }

    /// What is asked for, when all that it needs is there and valid.
    ///
    /// # Errors
    /// [`Code::InvalidEnvironment`], with the names of the variables.
    pub fn command(&self) -> Result<Command, Error> {
        let Some(command) = Command::ALL.into_iter().find(|c| c.as_str() == self.command) else {
            let all = Command::ALL.map(Command::as_str).join(", ");
            return Err(invalid(
                "CNI_COMMAND",
                &format!("{}expected one of {all}", shown(&self.command)),
            ));
        };
        let needs: &[(&str, bool)] = match command {
            Command::Add | Command::Check => &[
                ("CNI_CONTAINERID", self.container_id.is_empty()),
                ("CNI_NETNS", self.netns.as_os_str().is_empty()),
                ("CNI_IFNAME", self.ifname.is_empty()),
            ],
            Command::Del => &[
                ("CNI_CONTAINERID", self.container_id.is_empty()),
                ("CNI_IFNAME", self.ifname.is_empty()),
            ],
            Command::Gc => &[("CNI_PATH", self.path.is_empty())],
            Command::Status | Command::Version => &[],
        };
        let missing: Vec<&str> =
            needs.iter().filter(|(_, empty)| *empty).map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            let verb = if missing.len() == 1 { "is" } else { "are" };
            return Err(Error::new(
                Code::InvalidEnvironment,
                format!("{} {verb} missing, which {} needs", missing.join(", "), command.as_str()),
            ));
        }
        if matches!(command, Command::Add | Command::Check | Command::Del) {
            check_container_id(&self.container_id)?;
            check_ifname(&self.ifname)?;
        }
        Ok(command)
    }

    /// The attachment's identity, in the network `network`.
    pub fn id(&self, network: &str) -> AttachmentId {
        AttachmentId {
            network: network.to_owned(),
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
        }
    }
}

/// The value in a sentence, shortened: a hostile one must not make a huge message.
fn shown(value: &str) -> String {
    if value.is_empty() {
        return "missing: ".to_owned();
    }
    let short: String = value.chars().take(64).collect();
    format!("{short:?}: ")
}

fn invalid(name: &str, what: &str) -> Error {
    Error::new(Code::InvalidEnvironment, format!("{name}: {what}"))
}

/// Whether `name` may name a container or a network: an alphanumeric character, then those,
/// underscores, dots and hyphens.
pub(crate) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn check_container_id(id: &str) -> Result<(), Error> {
    if is_name(id) {
        return Ok(());
    }
    let expected = "expected an alphanumeric character, then any of those, `_`, `.` and `-`";
    Err(invalid("CNI_CONTAINERID", &format!("{}{expected}", shown(id))))
}

/// What the kernel takes for an interface's name (`dev_valid_name`), and for the name that it shall have:
/// `%` stands for a number that is free, and settings of all interfaces have the place of two names.
fn check_ifname(name: &str) -> Result<(), Error> {
    let expected = if name.len() > IFNAME_MAX {
        format!("expected at most {IFNAME_MAX} bytes")
    } else if name == "." || name == ".." {
        "expected neither `.` nor `..`".to_owned()
    } else if name == "all" || name == "default" || name.contains('%') {
        "expected neither `all` nor `default`, and no `%`".to_owned()
    } else if name.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        "expected no `/`, `:`, blank or control character".to_owned()
    } else {
        return Ok(());
    };
    Err(invalid("CNI_IFNAME", &format!("{}{expected}", shown(name))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use proptest::prelude::*;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let get = |name: &str| {
            pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
        };
        Environment::read(get).unwrap()
    }

    const ADD: [(&str, &str); 4] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
    ];

    fn refusal(pairs: &[(&str, &str)]) -> String {
        let error = environment(pairs).command().unwrap_err();
        assert_eq!(error.code, Code::InvalidEnvironment);
        error.details
    }

    #[test]
    fn each_command_needs_its_own_variables() {
        assert_eq!(environment(&ADD).command(), Ok(Command::Add));
        let named = |command| [("CNI_COMMAND", command)];
        assert_eq!(
            refusal(&named("ADD")),
            "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME are missing, which ADD needs"
        );
        assert_eq!(
            refusal(&named("CHECK")),
            "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME are missing, which CHECK needs"
        );
        assert_eq!(
            refusal(&named("DEL")),
            "CNI_CONTAINERID, CNI_IFNAME are missing, which DEL needs"
        );
        assert_eq!(refusal(&named("GC")), "CNI_PATH is missing, which GC needs");
        assert_eq!(environment(&named("STATUS")).command(), Ok(Command::Status));
        assert_eq!(environment(&named("VERSION")).command(), Ok(Command::Version));
        assert_eq!(
            refusal(&[]),
            "CNI_COMMAND: missing: expected one of ADD, DEL, CHECK, GC, STATUS, VERSION"
        );
        assert!(refusal(&named("add")).starts_with("CNI_COMMAND: \"add\": expected one of"));
    }

    #[test]
    fn names_that_the_specification_or_the_kernel_does_not_take() {
        let with = |name: &'static str, value: &'static str| {
            let mut pairs = ADD.to_vec();
            pairs.iter_mut().find(|(n, _)| *n == name).unwrap().1 = value;
            environment(&pairs).command()
        };
        for id in ["-a", "_a", ".a", "a b", "a/b", "ä", "a\n", "a;b"] {
            assert!(with("CNI_CONTAINERID", id).is_err(), "{id:?}");
        }
        for id in ["a", "0", "A_.-z", "a..b"] {
            assert!(with("CNI_CONTAINERID", id).is_ok(), "{id:?}");
        }
        for name in [
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "0123456789abcdef",
            "a\u{a0}b",
            "all",
            "default",
            "eth%d",
        ] {
            assert!(with("CNI_IFNAME", name).is_err(), "{name:?}");
        }
        for name in ["eth0", "0123456789abcde", "...", "ä", "net-1.5"] {
            assert!(with("CNI_IFNAME", name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused_by_name() {
        let bytes = |name: &str| (name == "CNI_IFNAME").then(|| OsString::from_vec(vec![0xff]));
        let error = Environment::read(bytes).unwrap_err();
        assert_eq!(error.details, "CNI_IFNAME: expected UTF-8");
    }

    #[test]
    fn the_path_is_split_and_holes_are_left_out() {
        let path = environment(&[("CNI_PATH", "/opt/cni/bin::/usr/lib/cni:")]).path;
        assert_eq!(path, [PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_command_or_a_refusal(
            command in prop_oneof![Just("ADD".to_owned()), Just("DEL".to_owned()), ".{0,8}"],
            id in ".{0,20}", netns in ".{0,20}", ifname in ".{0,20}",
        ) {
            let e = Environment {
                command, container_id: id, netns: netns.into(), ifname, ..Default::default()
            };
            match e.command() {
                Ok(Command::Add) => prop_assert!(is_name(&e.container_id) && e.ifname.len() <= 15),
                Ok(_) => {}
                Err(error) => prop_assert_eq!(error.code, Code::InvalidEnvironment),
            }
        }
    }
}
