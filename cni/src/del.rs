//! DEL: a container is unplugged, with the daemon or without it.

use podswitch_api::ClientError;

use crate::conf::Conf;
use crate::daemon::{self, Daemon};
use crate::env::{Command, Environment};
use crate::error::{Code, Error};
use crate::ipam::Delegate;
use crate::netns::{self, Owner};
use crate::pending::{self, Note};

/// Unplugs the container, then releases its addresses: nobody else may get them while frames still
/// reach it. Addresses that are given back over the interface are released before it goes; when that
/// fails, it goes nevertheless.
pub fn del(conf: &Conf, env: &Environment) -> Result<(), Error> {
    let release = || match Delegate::find(conf, env)? {
        Some(delegate) => delegate.run(Command::Del),
        None => Ok(()),
    };
    if conf.interface_first {
        let released = release();
        detach(conf, env)?;
        released
    } else {
        detach(conf, env)?;
        release()
    }
}

/// Removes the attachment. It is no error when there is none.
pub fn detach(conf: &Conf, env: &Environment) -> Result<(), Error> {
    let id = env.id(&conf.name);
    match daemon::with(&conf.socket, |daemon| daemon.del(id.clone())) {
        Ok(removed) if !removed.removed.is_empty() => Ok(()),
        // What the daemon does not know may be there nevertheless, when its state was lost.
        Ok(_) => match netns::remove_ours(&env.netns, &env.ifname)? {
            Owner::Bridge => hand_back(conf, env),
            Owner::Nobody | Owner::Us | Owner::Unknown => Ok(()),
        },
        Err(e) if daemon::is_down(&e) => without_daemon(conf, env, &e),
        Err(e) => Err(e.into()),
    }
}

/// Has the reference bridge plugin unplug a container that it plugged in before the network's
/// configuration became ours. Where that plugin is gone, the interface goes with its namespace.
fn hand_back(conf: &Conf, env: &Environment) -> Result<(), Error> {
    match Delegate::named("bridge", conf, env) {
        Ok(bridge) => bridge.run(Command::Del),
        Err(e) => {
            eprintln!("podswitch-cni: {} is on a bridge, and stays: {e}", env.ifname);
            Ok(())
        }
    }
}

/// Removes the interface, and leaves a note for the rest.
fn without_daemon(conf: &Conf, env: &Environment, why: &ClientError) -> Result<(), Error> {
    let id = env.id(&conf.name);
    // The note comes first: should we be killed now, the daemon still removes the interface.
    let note = Note::leave(&conf.socket, &id).map_err(|e| {
        let folder = pending::folder(&conf.socket);
        let details = format!("{why}; and no note can be left in {}: {e}", folder.display());
        Error::new(Code::Io, details)
    })?;
    netns::remove_ours(&env.netns, &env.ifname)?;
    eprintln!("podswitch-cni: {why}; what is left is removed when the daemon returns");
    // It may have returned just before the note was there. One that hangs reads it when it goes on.
    if !matches!(why, ClientError::Timeout { .. })
        && Daemon::connect(&conf.socket).and_then(|mut daemon| daemon.del(id)).is_ok()
        && let Err(e) = note.withdraw()
    {
        eprintln!("podswitch-cni: withdrawing the note: {e}");
    }
    Ok(())
}
