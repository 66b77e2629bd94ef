//! How a request that writes changes the desired state: pure, all or nothing.

use std::path::Path;

use crate::diff::{FdbKey, Object};
use crate::error::{Code, Error, FieldError};
use crate::method::Request;
use crate::state::{FdbEntry, Neighbor, Port, Route, Segment, State, Switch, Tunnel};

impl State {
    /// The desired state after `request`, valid, or why there is none. A request that only reads,
    /// or that only touches learned state, leaves it as it is. Whether an `apply` is a dry run is
    /// not asked here.
    pub fn edited<'a>(&'a self, request: &'a Request) -> Result<State, Error> {
        match request {
            Request::ConfigApply(apply) => self.replaced(&apply.config),
            Request::PortAdd(o) => self.with(o),
            Request::SegmentAdd(o) => self.with(o),
            Request::TunnelAdd(o) => self.with(o),
            Request::RouteAdd(o) => self.with(o),
            Request::NeighborAdd(o) => self.with(o),
            Request::FdbAdd(o) => self.with(o),
            Request::PortDel(by) => self.without::<Port>(&by.name),
            Request::SegmentDel(by) => self.without::<Segment>(&by.name),
            Request::TunnelDel(by) => self.without::<Tunnel>(&by.name),
            Request::RouteDel(by) => self.without::<Route>(by.prefix),
            Request::NeighborDel(by) => self.without::<Neighbor>(by.ip),
            Request::FdbDel(by) => self.without::<FdbEntry>(FdbKey(by.mac, &by.segment)),
            Request::StatusGet(_)
            | Request::RouteUpdate(_)
            | Request::CountersGet(_)
            | Request::ConfigGet(_)
            | Request::PortList(_)
            | Request::SegmentList(_)
            | Request::TunnelList(_)
            | Request::RouteList(_)
            | Request::NeighborList(_)
            | Request::FdbList(_)
            | Request::FdbFlush(_)
            | Request::NeighborFlush(_)
            // What is announced is a routing protocol's, and attachments are the runtime's: no part of the desired state.
            | Request::AttachmentAdd(_)
            | Request::AttachmentConfigure(_)
            | Request::AttachmentDel(_)
            | Request::AttachmentCheck(_)
            | Request::AttachmentGc(_)
            | Request::AttachmentList(_)
            | Request::AttachmentStatus(_) => Ok(self.clone()),
        }
    }

    fn with<T: Object>(&self, object: &T) -> Result<State, Error> {
        if T::list(self).iter().any(|o| o.key() == object.key()) {
            let (kind, key) = (T::KIND, object.key().to_string());
            let message =
                format!("there is a {kind} {key:?} already: remove it first, or use another name");
            return Err(Error::new(Code::AlreadyExists, message));
        }
        let mut next = self.clone();
        T::list_mut(&mut next).push(object.clone());
        next.validate().map_err(Error::invalid)?;
        Ok(next)
    }

    fn without<'a, T: Object + 'a>(&'a self, key: T::Key<'a>) -> Result<State, Error> {
        let at = T::list(self).iter().position(|o| o.key() == key);
        let (kind, key) = (T::KIND, key.to_string());
        let Some(at) = at else {
            let message = format!("there is no {kind} {key:?}: `podswitch {kind} list` tells them");
            return Err(Error::new(Code::NotFound, message));
        };
        let mut next = self.clone();
        T::list_mut(&mut next).remove(at);
        // The state was valid before, so that what is wrong now refers to what was removed.
        next.validate().map_err(|errors| {
            let mut error = Error::invalid(errors);
            error.code = Code::InUse;
            if let Some(data) = &error.data {
                let user = data.first.field.rsplit_once('.').map_or("", |(object, _)| object);
                error.message = format!("{kind} {key:?} is in use by {user}: remove that first");
            }
            error
        })?;
        Ok(next)
    }

    fn replaced(&self, config: &State) -> Result<State, Error> {
        config.validate().map_err(Error::invalid)?;
        if let Some(new) = &config.switch
            && let Some(e) = fixed(&self.switch_or_default(), new)
        {
            return Err(Error::field(Code::NeedsRestart, e));
        }
        Ok(State { switch: self.switch.clone(), ..config.clone() })
    }
}

/// The first setting of the process that differs, none of which can change while it runs.
fn fixed(old: &Switch, new: &Switch) -> Option<FieldError> {
    let path = |p: &Path| p.display().to_string();
    let option = |s: Option<String>| s.unwrap_or_else(|| "none".to_owned());
    let settings = |s: &Switch| {
        [
            ("socket", path(&s.socket)),
            ("socket_group", option(s.socket_group.clone())),
            ("workers", s.workers.to_string()),
            ("cpus", format!("{:?}", s.cpus)),
            ("nice", s.nice.to_string()),
            ("spin", s.spin.to_string()),
            ("busy_poll", option(s.busy_poll.map(|us| us.to_string()))),
            ("ring", s.ring.to_string()),
            ("superpackets", format!("{:?}", s.superpackets).to_lowercase()),
            ("bulk", format!("{:?}", s.bulk).to_lowercase()),
            ("frames", s.frames.to_string()),
            ("fdb_capacity", s.fdb_capacity.to_string()),
            ("ageing", s.ageing.to_string()),
            ("state_file", option(s.state_file.as_deref().map(path))),
        ]
    };
    let ((key, old), (_, new)) =
        settings(old).into_iter().zip(settings(new)).find(|(old, new)| old != new)?;
    let expected = format!("{old}, which the daemon runs with: the change needs a restart");
    Some(FieldError::new(format!("switch.{key}"), new, expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{Apply, ByName};
    use serde_json::json;

    fn state(value: serde_json::Value) -> State {
        serde_json::from_value(value).unwrap()
    }

    fn node() -> State {
        state(json!({
            "node": {"pod_cidrs": ["10.244.1.0/24"], "gateway": true},
            "uplink": {"dev": "uplink0"},
            "tunnel": [{"name": "node2", "kind": "vxlan", "remote": "192.0.2.2", "vni": 1}],
            "route": [{"prefix": "10.244.2.0/24", "via": "node2"}]
        }))
    }

    fn request(method: &str, params: serde_json::Value) -> Request {
        Request::from_parts(method, Some(params)).unwrap()
    }

    #[test]
    fn added_and_removed() {
        let add = request("route.add", json!({"prefix": "10.9.0.0/16", "via": "host"}));
        let with = node().edited(&add).unwrap();
        assert_eq!(with.routes.len(), 2);
        let del = request("route.del", json!({"prefix": "10.9.0.0/16"}));
        assert_eq!(with.edited(&del).unwrap(), node());
    }

    #[test]
    fn what_exists_is_not_added_again() {
        let add = request("route.add", json!({"prefix": "10.244.2.0/24", "via": "host"}));
        let e = node().edited(&add).unwrap_err();
        assert_eq!(e.code, Code::AlreadyExists);
        assert!(e.message.starts_with("there is a route \"10.244.2.0/24\" already"), "{e}");
    }

    #[test]
    fn what_is_not_there_cannot_be_removed() {
        let del = Request::PortDel(ByName { name: "web".to_owned() });
        let e = node().edited(&del).unwrap_err();
        assert_eq!(e.code, Code::NotFound);
        assert_eq!(e.message, "there is no port \"web\": `podswitch port list` tells them");
    }

    #[test]
    fn what_is_used_stays() {
        let e = node().edited(&request("tunnel.del", json!({"name": "node2"}))).unwrap_err();
        assert_eq!(e.code, Code::InUse);
        assert_eq!(
            e.message,
            "tunnel \"node2\" is in use by route \"10.244.2.0/24\": remove that first"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let add = request("route.add", json!({"prefix": "10.9.0.0/16", "via": "node3"}));
        let e = node().edited(&add).unwrap_err();
        assert_eq!(e.code, Code::InvalidParams);
        assert_eq!(e.data.unwrap().first.field, "route \"10.9.0.0/16\".via");
    }

    #[test]
    fn apply_keeps_the_process_settings() {
        let mut running = node();
        running.switch = Some(Switch { frames: 4096, ..Switch::default() });
        let apply = |config: State| Request::ConfigApply(Apply { config, dry_run: false });

        let next = running.edited(&apply(State::default())).unwrap();
        assert_eq!(next, State { switch: running.switch.clone(), ..State::default() });

        let other = state(json!({"switch": {"frames": 4096, "workers": 2}}));
        let e = running.edited(&apply(other)).unwrap_err();
        assert_eq!(e.code, Code::NeedsRestart);
        assert_eq!(
            e.message,
            "switch.workers = 2: expected 1, which the daemon runs with: the change needs a restart"
        );
    }
}
