//! Attachments over the control socket, as the CNI plugin asks for them, in real namespaces.

use std::path::Path;

use podswitch_api::attachment::{
    Addresses, Attachment, AttachmentAdd, AttachmentId, AttachmentRoute, Removed,
};
use podswitch_api::method::Empty;
use podswitch_api::{Client, ClientError, Code, Request, Response};
use podswitch_tests::{Daemon, Lab, Netns};

const NODE: &str =
    "[node]\npod_cidrs = [\"10.244.1.0/24\", \"fd00:10:244:1::/64\"]\ngateway = true\n";

/// A request for a pod with addresses of the node's, and default routes.
fn request(container: &str, netns: &Netns) -> AttachmentAdd {
    AttachmentAdd {
        network: "pod-network".into(),
        container_id: container.into(),
        ifname: "eth0".into(),
        netns: Path::new(netns.path()).to_owned(),
        segment: None,
        vlan: None,
        addresses: Addresses::Node { ips: Vec::new() },
        gateway: true,
        default_route: true,
        routes: Vec::new(),
        mac: None,
        mtu: None,
        masquerade: false,
        anti_spoof: true,
        ingress: None,
        egress: None,
    }
}

fn call(daemon: &Daemon, request: Request) -> Result<Response, ClientError> {
    Client::connect(daemon.socket()).expect("the daemon listens").call(&request)
}

#[track_caller]
fn add(daemon: &Daemon, request: &AttachmentAdd) -> Attachment {
    match call(daemon, Request::AttachmentAdd(request.clone())) {
        Ok(Response::AttachmentAdd(attached)) => attached,
        other => panic!("attachment.add: {other:?}"),
    }
}

#[track_caller]
fn refused(daemon: &Daemon, request: &AttachmentAdd) -> podswitch_api::Error {
    match call(daemon, Request::AttachmentAdd(request.clone())) {
        Err(ClientError::Refused(e)) => e,
        other => panic!("attachment.add: {other:?}"),
    }
}

#[track_caller]
fn del(daemon: &Daemon, id: AttachmentId) -> Removed {
    match call(daemon, Request::AttachmentDel(id)) {
        Ok(Response::AttachmentDel(removed)) => removed,
        other => panic!("attachment.del: {other:?}"),
    }
}

#[track_caller]
fn list(daemon: &Daemon) -> Vec<Attachment> {
    match call(daemon, Request::AttachmentList(Empty {})) {
        Ok(Response::AttachmentList(all)) => all,
        other => panic!("attachment.list: {other:?}"),
    }
}

/// One echo request, answered within a second: nothing that was slow to come up is forgiven.
#[track_caller]
fn ping_once(from: &Netns, to: &str) {
    from.sh(&format!("ping -c 1 -W 1 {to}"));
}

#[test]
fn a_pod_answers_as_soon_as_it_is_plugged_in() {
    let Some(lab) = Lab::new() else { return };
    let node = lab.netns("n");
    let daemon = Daemon::start(&lab, &node, NODE);
    let (one, two) = (lab.netns("one"), lab.netns("two"));

    let first = add(&daemon, &request("one", &one));
    assert_eq!(first.ips[0].address.to_string(), "10.244.1.2/24");
    assert_eq!(first.ips[1].address.to_string(), "fd00:10:244:1::2/64");
    assert_eq!(first.port, "pod-network/one/eth0");
    ping_once(&one, "10.244.1.1");
    let second = add(&daemon, &request("two", &two));
    for ip in &second.ips {
        ping_once(&one, &ip.address.addr().to_string());
    }
    for ip in &first.ips {
        ping_once(&node, &ip.address.addr().to_string());
    }
    assert_eq!(two.mac("eth0"), second.mac.to_string());
    assert_eq!(node.mac(&second.dev), second.dev_mac.to_string());
    assert_eq!(list(&daemon), [first.clone(), second.clone()]);

    // The runtime asks once more: the same answer. Something else under this name: refused.
    assert_eq!(add(&daemon, &request("one", &one)), first);
    let other = AttachmentAdd { mtu: Some(1400), ..request("one", &one) };
    assert_eq!(refused(&daemon, &other).code, Code::AlreadyExists);

    assert_eq!(del(&daemon, first.id()).removed, [first.id()]);
    assert_eq!(del(&daemon, first.id()).removed, []);
    assert!(!one.links().contains(&"eth0".to_owned()));
    let again = add(&daemon, &request("one", &one));
    assert_ne!(again.ips[0], first.ips[0], "just given back");
    ping_once(&two, &again.ips[0].address.addr().to_string());
    daemon.finish();
}

#[test]
fn another_ipam_plugin_gives_the_addresses() {
    let Some(lab) = Lab::new() else { return };
    let node = lab.netns("n");
    let daemon = Daemon::start(&lab, &node, NODE);
    let pod = lab.netns("pod");
    let ips = serde_json::json!([{"address": "10.244.1.77/24"}]);
    let route = serde_json::json!({"dst": "10.96.0.0/12", "mtu": 1300, "advmss": 1200});
    let wanted = AttachmentAdd {
        addresses: Addresses::Plugin { ips: serde_json::from_value(ips).unwrap() },
        routes: vec![serde_json::from_value::<AttachmentRoute>(route).unwrap()],
        ..request("pod", &pod)
    };
    let attached = add(&daemon, &wanted);
    assert_eq!(attached.ips[0].gateway.unwrap().to_string(), "10.244.1.1");
    ping_once(&pod, "10.244.1.1");
    ping_once(&node, "10.244.1.77");
    let routes = pod.ip("route show");
    assert!(routes.contains("10.96.0.0/12 via 10.244.1.1 dev eth0"), "{routes}");
    assert!(routes.contains("mtu 1300 advmss 1200"), "{routes}");
    assert!(routes.contains("default via 10.244.1.1"), "{routes}");
    del(&daemon, attached.id());
    daemon.finish();
}
