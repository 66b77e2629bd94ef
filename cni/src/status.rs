//! STATUS: would ADD work now?

use podswitch_api::ClientError;
use podswitch_api::attachment::{AttachmentStatus, Unready};

use crate::conf::{Conf, Ipam};
use crate::daemon;
use crate::env::{Command, Environment};
use crate::error::{Code, Error};
use crate::ipam::Delegate;

/// Tells why ADD would fail, if it would.
pub fn status(conf: &Conf, env: &Environment) -> Result<(), Error> {
    // What ADD would refuse of the configuration, whoever asks.
    let interface = conf.interface()?;
    let params = AttachmentStatus {
        network: conf.name.clone(),
        allocate: matches!(conf.ipam, Ipam::Node(_)),
        masquerade: interface.masquerade,
    };
    let readiness =
        daemon::with(&conf.socket, |daemon| daemon.status(params.clone())).map_err(unavailable)?;
    if !readiness.problems.is_empty() {
        let limited = readiness.problems.iter().any(|p| match p.kind {
            Unready::NotForwarding | Unready::UplinkDown => true,
            Unready::PortsExhausted
            | Unready::AddressesExhausted
            | Unready::NoPodCidr
            | Unready::NoMasquerade => false,
        });
        let code = if limited { Code::LimitedConnectivity } else { Code::NotAvailable };
        let sentences: Vec<&str> = readiness.problems.iter().map(|p| p.message.as_str()).collect();
        return Err(Error::new(code, sentences.join("; ")));
    }
    match Delegate::find(conf, env)? {
        Some(delegate) => delegate.run(Command::Status),
        None => Ok(()),
    }
}

/// A daemon that is gone does not forward either; one that does not answer may.
fn unavailable(e: ClientError) -> Error {
    let code = match e {
        ClientError::Unreachable { .. } => Code::LimitedConnectivity,
        _ => Code::NotAvailable,
    };
    Error::new(code, Error::from(e).details)
}
