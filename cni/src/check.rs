//! CHECK: what is compared with what should be.

use podswitch_api::attachment::{AttachmentCheck, AttachmentRoute};
use serde_json::Value;

use crate::add::absolute;
use crate::conf::Conf;
use crate::daemon;
use crate::env::{Command, Environment};
use crate::error::{Code, Error};
use crate::ipam::Delegate;
use crate::netns::Container;
use crate::result::Received;

/// Checks an attachment, its delegated addresses included.
pub fn check(conf: &Conf, env: &Environment) -> Result<(), Error> {
    let Some(previous) = conf.prev_result()? else {
        let details = "prevResult is missing, which CHECK compares with";
        return Err(Error::new(Code::InvalidConfig, details));
    };
    let expected = Received::read(&Value::Object(previous.clone()), "prevResult")?;
    let params = expectation(conf, env, &expected)?;
    Container::open(&params.netns)?;
    if let Some(delegate) = Delegate::find(conf, env)? {
        delegate.run(Command::Check)?;
    }
    let checked = daemon::with(&conf.socket, |daemon| daemon.check(params.clone()))?;
    if checked.differences.is_empty() {
        Ok(())
    } else {
        Err(Error::new(Code::Differs, checked.differences.join("; ")))
    }
}

/// What `prevResult` says of our interface. Plugins later in the chain may have changed it.
fn expectation(
    conf: &Conf,
    env: &Environment,
    expected: &Received,
) -> Result<AttachmentCheck, Error> {
    let sandbox = env.netns.to_string_lossy();
    let is_ours = |i: &crate::result::Interface| {
        i.name == env.ifname && i.sandbox.as_deref() == Some(&*sandbox)
    };
    let Some(index) = expected.interfaces.iter().position(is_ours) else {
        let details = format!("prevResult has no interface {} in {sandbox}", env.ifname);
        return Err(Error::new(Code::InvalidConfig, details));
    };
    let mac = match expected.interfaces[index].mac.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| {
            let key = format!("prevResult.interfaces[{index}].mac");
            Error::new(Code::InvalidConfig, format!("{key} = {text:?}: expected a MAC address"))
        })?),
    };
    // A result does not say which interface its routes are of: with several in the container,
    // those count that the daemon knows of.
    let alone = expected.interfaces.iter().filter(|i| i.sandbox.is_some()).count() == 1;
    let routes = if alone { expected.routes.clone() } else { Vec::new() };
    Ok(AttachmentCheck {
        network: conf.name.clone(),
        container_id: env.container_id.clone(),
        ifname: env.ifname.clone(),
        netns: absolute(&env.netns)?,
        ips: expected
            .ips
            .iter()
            .filter(|ip| ip.interface.is_none_or(|i| i == index))
            .map(|ip| ip.address)
            .collect(),
        routes: routes.into_iter().map(AttachmentRoute::from).collect(),
        mac,
    })
}
