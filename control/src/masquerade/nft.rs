//! The rules as nftables has them, and the way into the kernel: `nft`, told in JSON (libnftables-json(5)).
//!
//! The crate `nftables` has the schema. It is not what executes `nft` here: its own way loses what `nft`
//! says when it refuses.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use encap::Prefix;
use nftables::batch::Batch;
use nftables::expr::{self, CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField};
use nftables::schema::{
    Chain, NfCmd, NfListObject, Nftables, Rule, Set, SetFlag, SetType, SetTypeValue, Table,
};
use nftables::stmt::{Match, NAT, NATFlag, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use super::Rules;

const TABLE: &str = "podswitch";
const CHAIN: &str = "postrouting";
/// The priority of source NAT, `srcnat` in nft(8).
const SRCNAT: i32 = 100;

/// The two families: the name of the header, and what ends the names of sets.
const FAMILIES: [(&str, SetType, u8); 2] =
    [("ip", SetType::Ipv4Addr, 4), ("ip6", SetType::Ipv6Addr, 6)];

impl Rules {
    /// Puts the rules into the kernel in place of those that are there.
    pub fn apply(&self) -> io::Result<()> {
        self.apply_by("nft")
    }

    /// Tells whether the rules could be applied, and leaves the kernel as it is.
    pub fn check(&self) -> io::Result<()> {
        self.give_to("nft", &["-c"])
    }

    /// As [`Rules::apply`], by a program of this name or path.
    pub(super) fn apply_by(&self, program: &str) -> io::Result<()> {
        self.give_to(program, &[])
    }

    fn give_to(&self, program: &str, options: &[&str]) -> io::Result<()> {
        let mut nft = Command::new(program)
            .args(options)
            .args(["-j", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| {
                let cure = "install the package nftables, or turn ipMasq off";
                io::Error::new(e.kind(), format!("cannot run `{program}`: {e}; {cure}"))
            })?;
        if let Some(mut stdin) = nft.stdin.take() {
            // One that refuses early, such as one without JSON, does not read it all.
            let written = stdin.write_all(&serde_json::to_vec(&self.batch())?);
            written.or_else(|e| match e.kind() {
                io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(e),
            })?;
        }
        let output = nft.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().unwrap_or("no reason given");
        Err(io::Error::other(format!("`nft` refused the rules: {first}")))
    }

    /// One transaction that replaces the table.
    pub(super) fn batch(&self) -> Nftables<'static> {
        let mut batch = Batch::new();
        let table = || {
            NfListObject::Table(Table { family: NfFamily::INet, name: TABLE.into(), handle: None })
        };
        // Removed only if it is there: that is what adding it first is for.
        batch.add(table());
        batch.delete(table());
        if self.is_empty() {
            return batch.to_nftables();
        }
        batch.add(table());
        for (_, kind, n) in FAMILIES {
            for (name, prefixes) in
                [("masquerade", &self.sources), ("inside", &self.inside), ("direct", &self.direct)]
            {
                let of_family = prefixes.iter().filter(|p| p.is_ipv4() == (n == 4));
                batch.add(set(format!("{name}{n}"), kind, of_family.map(element).collect()));
            }
        }
        batch.add(NfListObject::Chain(Chain {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: CHAIN.into(),
            _type: Some(NfChainType::NAT),
            hook: Some(NfHook::Postrouting),
            prio: Some(SRCNAT),
            policy: Some(NfChainPolicy::Accept),
            ..Chain::default()
        }));
        for (header, _, n) in FAMILIES {
            let source =
                |set: &str| is(address(header, "saddr"), Operator::EQ, &format!("@{set}{n}"));
            let leaves_by = |op| is(meta(MetaKey::Oifname), op, &self.interface);
            batch.add_cmd(rule(vec![
                leaves_by(Operator::NEQ),
                source("masquerade"),
                is(address(header, "daddr"), Operator::NEQ, &format!("@inside{n}")),
            ]));
            batch.add_cmd(rule(vec![
                leaves_by(Operator::EQ),
                is(ct_status(), Operator::IN, "dnat"),
                source("direct"),
            ]));
        }
        batch.to_nftables()
    }
}

fn element(prefix: &Prefix) -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(expr::Prefix {
        addr: Box::new(Expression::String(prefix.addr().to_string().into())),
        len: prefix.len().into(),
    }))
}

fn set(name: String, kind: SetType, elements: Vec<Expression<'static>>) -> NfListObject<'static> {
    NfListObject::Set(Box::new(Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        set_type: SetTypeValue::Single(kind),
        flags: Some(HashSet::from([SetFlag::Interval])),
        elem: (!elements.is_empty()).then_some(Cow::Owned(elements)),
        ..Set::default()
    }))
}

/// A rule that masquerades what matches, from a port that cannot be foreseen.
fn rule(matches: Vec<Statement<'static>>) -> NfCmd<'static> {
    let flags = Some(HashSet::from([NATFlag::FullyRandom]));
    let masquerade =
        Statement::Masquerade(Some(NAT { addr: None, family: None, port: None, flags }));
    NfCmd::Add(NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: CHAIN.into(),
        expr: matches.into_iter().chain([masquerade]).collect(),
        handle: None,
        index: None,
        comment: None,
    }))
}

fn is(left: Expression<'static>, op: Operator, right: &str) -> Statement<'static> {
    Statement::Match(Match { left, right: Expression::String(right.to_owned().into()), op })
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn ct_status() -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT { key: "status".into(), family: None, dir: None }))
}

fn address(header: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: header.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}
