//! `podswitch route update`: what a routing protocol does, from a file.

use std::collections::HashSet;
use std::path::PathBuf;

use encap::Prefix;
use podswitch_api::method::{RouteUpdate, RouteUpdated};
use podswitch_api::state::{Route, Via};
use podswitch_api::{Client, Code, Error, FieldError, Request, Response};

use super::Daemon;
use super::out::{Failure, Out};

/// Changes in one request: each is carried out wholly or not at all, and other clients' come in between.
const BATCH: usize = 1000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Each line is one of

  add PREFIX VIA...    into a tunnel, to an address, or a word; several share the flows
  del PREFIX

Empty lines and what follows a # do not count. Nothing is done when a line makes no sense.

Examples:
  podswitch route update changes.txt
  echo 'add 10.244.2.0/24 node2' | podswitch route update -")]
pub struct Update {
    /// The changes, one a line; - for standard input.
    file: PathBuf,
}

impl Update {
    pub fn run(self, daemon: &Daemon, out: &Out) -> Result<(), Failure> {
        let text = if self.file.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(&self.file)
        };
        let text = text
            .map_err(|e| Failure::Runtime(format!("cannot read {}: {e}", self.file.display())))?;
        let updates = parse(&text).map_err(Failure::Refused)?;
        let mut client = Client::connect(&daemon.socket)?;
        let mut total = RouteUpdated::default();
        for update in updates {
            if let Response::RouteUpdate(done) = client.call(&Request::RouteUpdate(update))? {
                total.added += done.added;
                total.replaced += done.replaced;
                total.removed += done.removed;
                total.announced = done.announced;
            }
        }
        if out.json {
            return out.json(&total);
        }
        out.text(&show(&total))
    }
}

/// The result for people.
pub fn show(done: &RouteUpdated) -> String {
    let RouteUpdated { added, replaced, removed, announced } = done;
    format!("{added} added, {replaced} replaced, {removed} removed; {announced} are announced")
}

/// The requests that a file stands for, in its order. A prefix is once in each.
fn parse(text: &str) -> Result<Vec<RouteUpdate>, Error> {
    let mut updates = vec![RouteUpdate::default()];
    let mut seen: HashSet<Prefix> = HashSet::new();
    for (i, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or("").split_whitespace().collect();
        let wrong = |value: &str, expected: &str| {
            Error::field(
                Code::InvalidParams,
                FieldError::new(format!("line {}", i + 1), format!("{value:?}"), expected),
            )
        };
        let prefix = |word: &str| {
            word.parse::<Prefix>()
                .map_err(|e| wrong(word, &format!("a prefix like 10.244.2.0/24: {e}")))
        };
        let (prefix, via) = match words[..] {
            [] => continue,
            ["add", to, ref via @ ..] if !via.is_empty() => {
                (prefix(to)?, Some(Via::of(via.iter().copied().map(Via::from).collect())))
            }
            ["del", of] => (prefix(of)?, None),
            _ => return Err(wrong(line, "`add PREFIX VIA...` or `del PREFIX`")),
        };
        if !seen.insert(prefix) || seen.len() > BATCH {
            updates.push(RouteUpdate::default());
            seen = HashSet::from([prefix]);
        }
        if let Some(update) = updates.last_mut() {
            match via {
                Some(via) => update.add.push(Route { prefix, via }),
                None => update.del.push(prefix),
            }
        }
    }
    Ok(updates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_their_order() {
        let text = "# a comment\nadd 10.1.0.0/16 node2\nadd 10.2.0.0/16 node2 node3 # two\n\n\
                    del 10.3.0.0/16\ndel 10.1.0.0/16\n";
        let updates = parse(text).unwrap();
        let p = |s: &str| s.parse::<Prefix>().unwrap();
        let t = |s: &str| Via::Tunnel(s.to_owned());
        assert_eq!(
            updates,
            [
                RouteUpdate {
                    add: vec![
                        Route { prefix: p("10.1.0.0/16"), via: t("node2") },
                        Route {
                            prefix: p("10.2.0.0/16"),
                            via: Via::Multipath(vec![t("node2"), t("node3")])
                        },
                    ],
                    del: vec![p("10.3.0.0/16")],
                },
                RouteUpdate { add: Vec::new(), del: vec![p("10.1.0.0/16")] },
            ]
        );
    }

    #[test]
    fn many_lines_are_several_requests() {
        let text: String =
            (0..2500).map(|i| format!("add 10.{}.{}.0/24 node2\n", i / 256, i % 256)).collect();
        let sizes: Vec<usize> = parse(&text).unwrap().iter().map(|u| u.add.len()).collect();
        assert_eq!(sizes, [1000, 1000, 500]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, expected) in [
            (
                "add 10.1.0.0/16 a\nadd 10.1.0.0/16\n",
                "line 2 = \"add 10.1.0.0/16\": expected `add PREFIX VIA...` or `del PREFIX`",
            ),
            ("del 10.1.0.0/33", "line 1 = \"10.1.0.0/33\": expected a prefix like 10.244.2.0/24"),
            ("replace 10.1.0.0/16 a", "line 1 = \"replace 10.1.0.0/16 a\": expected `add"),
        ] {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.starts_with(expected), "{e}");
        }
    }
}
