//! GC: what is not in the list of those that are left is removed.

use podswitch_api::attachment::AttachmentGc;

use crate::conf::Conf;
use crate::daemon;
use crate::env::{Command, Environment};
use crate::error::Error;
use crate::ipam::Delegate;

/// Removes attachments of the network, and has the delegated plugin do the same. Goes on after an
/// error, and reports all of them.
pub fn gc(conf: &Conf, env: &Environment) -> Result<(), Error> {
    let params = AttachmentGc { network: conf.name.clone(), valid: conf.valid_attachments()? };
    let own = daemon::with(&conf.socket, |daemon| daemon.gc(params.clone()));
    let delegated = Delegate::find(conf, env).and_then(|delegate| match delegate {
        Some(delegate) => delegate.run(Command::Gc),
        None => Ok(()),
    });
    match (own.map_err(Error::from), delegated) {
        (Ok(_), delegated) => delegated,
        (Err(own), Ok(())) => Err(own),
        (Err(mut own), Err(delegated)) => {
            own.details = format!("{}; and {delegated}", own.details);
            Err(own)
        }
    }
}
