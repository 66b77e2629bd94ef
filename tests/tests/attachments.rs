//! Attachments over the control socket, as the CNI plugin asks for them, in real namespaces.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use podswitch_api::attachment::{
    Addresses, Attachment, AttachmentAdd, AttachmentCheck, AttachmentGc, AttachmentId,
    AttachmentRoute, AttachmentStatus, Removed, Unready, ValidAttachment,
};
use podswitch_api::method::Empty;
use podswitch_api::{Client, ClientError, Code, Request, Response};
use podswitch_tests::{Daemon, Lab, NODE, Netns, Node, Way, join, wait_until};

/// A request for a pod with addresses of the node's, and default routes.
fn request(container: &str, netns: &Netns) -> AttachmentAdd {
    AttachmentAdd {
        network: "pod-network".into(),
        container_id: container.into(),
        ifname: "eth0".into(),
        netns: Path::new(netns.path()).to_owned(),
        segment: None,
        vlan: None,
        kind: None,
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

/// What `attachment.check` finds different.
#[track_caller]
fn check(daemon: &Daemon, id: &AttachmentId, netns: &Netns) -> Vec<String> {
    let check = AttachmentCheck {
        network: id.network.clone(),
        container_id: id.container_id.clone(),
        ifname: id.ifname.clone(),
        netns: Path::new(netns.path()).to_owned(),
        ips: Vec::new(),
        routes: Vec::new(),
        mac: None,
    };
    match call(daemon, Request::AttachmentCheck(check)) {
        Ok(Response::AttachmentCheck(checked)) => checked.differences,
        other => panic!("attachment.check: {other:?}"),
    }
}

#[track_caller]
fn problems(daemon: &Daemon) -> Vec<Unready> {
    let status =
        AttachmentStatus { network: "pod-network".into(), allocate: true, masquerade: false };
    match call(daemon, Request::AttachmentStatus(status)) {
        Ok(Response::AttachmentStatus(r)) => r.problems.iter().map(|p| p.kind).collect(),
        other => panic!("attachment.status: {other:?}"),
    }
}

/// A request with an address from another IPAM plugin, in a segment of its own, as the reference bridge
/// plugin's configuration `{"bridge": …, "isGateway": true}` with host-local asks for it.
fn bridged(container: &str, netns: &Netns, segment: &str, address: &str) -> AttachmentAdd {
    let ips = serde_json::json!([{ "address": address }]);
    let route = serde_json::json!({"dst": "0.0.0.0/0"});
    AttachmentAdd {
        segment: Some(segment.into()),
        addresses: Addresses::Plugin { ips: serde_json::from_value(ips).unwrap() },
        default_route: false,
        routes: vec![serde_json::from_value(route).unwrap()],
        ..request(container, netns)
    }
}

/// One echo request, answered within a second: nothing that was slow to come up is forgiven.
#[track_caller]
fn ping_once(from: &Netns, to: &str) {
    from.sh(&format!("ping -c 1 -W 1 {to}"));
}

#[test]
fn a_pod_answers_as_soon_as_it_is_plugged_in() {
    let Some(lab) = Lab::beside_others() else { return };
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
    assert_eq!(node.mac(second.dev.as_ref().unwrap()), second.dev_mac.unwrap().to_string());
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
    let Some(lab) = Lab::beside_others() else { return };
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

#[test]
fn a_bridge_plugins_segment_needs_nothing_configured() {
    let Some(lab) = Lab::beside_others() else { return };
    let node = lab.netns("n");
    let daemon = Daemon::start(&lab, &node, "");
    let [one, two, other] = ["one", "two", "other"].map(|n| lab.netns(n));

    let first = add(&daemon, &bridged("one", &one, "cni0", "10.244.0.5/16"));
    assert_eq!(first.ips[0].gateway.unwrap().to_string(), "10.244.0.1");
    ping_once(&one, "10.244.0.1");
    ping_once(&node, "10.244.0.5");
    let second = add(&daemon, &bridged("two", &two, "cni0", "10.244.0.6/16"));
    ping_once(&two, "10.244.0.5");
    // Another segment has its own gateway on the same router; what is there stays undisturbed.
    let third = add(&daemon, &bridged("other", &other, "blue", "10.88.0.6/24"));
    ping_once(&other, "10.88.0.1");
    ping_once(&other, "10.244.0.6");
    ping_once(&node, "10.88.0.6");
    ping_once(&node, "10.244.0.5");

    // Taken, also in another segment that the same router serves.
    let spare = lab.netns("spare");
    let taken = refused(&daemon, &bridged("spare", &spare, "green", "10.88.0.6/24"));
    assert_eq!(taken.code, Code::InUse, "{taken}");
    assert!(!spare.links().contains(&"eth0".to_owned()), "nothing is left of what is refused");
    assert_eq!(problems(&daemon), [Unready::NoPodCidr]);
    assert_eq!(refused(&daemon, &request("spare", &spare)).code, Code::InvalidParams);

    // Segments go with the last of their pods, and the host port with the last segment.
    let segments = |daemon: &Daemon| daemon.json("segment list").as_array().unwrap().len();
    assert_eq!(segments(&daemon), 3);
    del(&daemon, third.id());
    assert_eq!(segments(&daemon), 2);
    ping_once(&node, "10.244.0.6");
    del(&daemon, first.id());
    del(&daemon, second.id());
    assert_eq!(segments(&daemon), 1);
    assert_eq!(node.links(), ["lo"]);
    daemon.finish();
}

#[test]
fn segments_may_overlap_the_nodes_own() {
    let Some(lab) = Lab::beside_others() else { return };
    let node = lab.netns("n");
    let daemon = Daemon::start(&lab, &node, NODE);
    let [own, guest] = ["own", "guest"].map(|n| lab.netns(n));
    let first = add(&daemon, &request("own", &own));
    add(&daemon, &bridged("guest", &guest, "cni0", "10.244.0.5/16"));
    ping_once(&guest, "10.244.0.1");
    ping_once(&node, "10.244.0.5");
    ping_once(&node, "10.244.1.2");
    ping_once(&own, "10.244.0.5");
    // A configuration that is applied leaves the pods alone.
    daemon.apply(&lab, NODE);
    ping_once(&own, "10.244.0.5");

    // An address that another plugin has given out is not given out again.
    let taker = lab.netns("taker");
    add(&daemon, &bridged("taker", &taker, "cni0", "10.244.1.3/16"));
    let next = add(&daemon, &request("next", &lab.netns("next")));
    assert_eq!(next.ips[0].address.to_string(), "10.244.1.4/24");
    assert_eq!(first.ips[0].address.to_string(), "10.244.1.2/24");
    let port = daemon.try_cli("port del pod-network/own/eth0");
    assert_eq!(port.code, 1);
    assert!(port.stderr.contains("belongs to a container"), "{}", port.stderr);
    daemon.finish();
}

#[test]
fn the_daemon_takes_its_pods_up_again() {
    let Some(lab) = Lab::beside_others() else { return };
    let node = lab.netns("n");
    let [one, two, gone] = ["one", "two", "gone"].map(|n| lab.netns(n));
    let daemon = Daemon::start(&lab, &node, NODE);
    let first = add(&daemon, &request("one", &one));
    let second = add(&daemon, &bridged("two", &two, "cni0", "10.88.0.5/24"));
    let third = add(&daemon, &request("gone", &gone));
    let index =
        |netns: &Netns| netns.ip("-o link show dev eth0").split(':').next().map(str::to_owned);
    let before = index(&one);
    daemon.crash();
    drop(gone);

    let daemon = Daemon::start(&lab, &node, NODE);
    ping_once(&one, "10.88.0.5");
    ping_once(&node, "10.244.1.2");
    assert_eq!(index(&one), before, "the pod's interface is the one that it was");
    // The pod whose namespace is gone keeps its address until it is removed.
    assert_eq!(list(&daemon).len(), 3);
    let next = add(&daemon, &request("next", &lab.netns("next")));
    assert_eq!(next.ips[0].address.to_string(), "10.244.1.4/24");
    assert_eq!(del(&daemon, third.id()).removed, [third.id()]);
    assert_eq!(add(&daemon, &request("one", &one)), first, "asked for once more");
    assert_eq!(check(&daemon, &first.id(), &one), Vec::<String>::new());

    // The clean way takes the interfaces away, and brings them back.
    daemon.finish_leaving(&["lo"]);
    assert!(!one.links().contains(&"eth0".to_owned()));
    // Meanwhile the runtime wants one removed, and can only leave a note.
    let notes = lab.folder().join("n.sock.pending");
    std::fs::create_dir(&notes).unwrap();
    std::os::unix::fs::chown(&notes, Some(0), Some(0)).unwrap();
    let note = serde_json::to_string(&second.id()).unwrap();
    std::fs::write(notes.join("a.json"), &note).unwrap();
    let daemon = Daemon::start(&lab, &node, NODE);
    ping_once(&one, "10.244.1.1");
    assert_eq!(list(&daemon).len(), 2, "the noted one is removed");
    assert!(!notes.join("a.json").exists());
    // A note that comes just as the daemon starts is found all the same.
    std::fs::write(notes.join("b.json"), serde_json::to_string(&first.id()).unwrap()).unwrap();
    wait_until("the note is carried out", Duration::from_secs(5), || list(&daemon).len() == 1);
    daemon.finish_leaving(&["lo"]);
}

#[test]
fn garbage_is_collected_and_differences_are_named() {
    let Some(lab) = Lab::beside_others() else { return };
    let node = lab.netns("n");
    let small = "[node]\npod_cidrs = [\"10.244.1.0/29\"]\ngateway = true\n";
    let daemon = Daemon::start(&lab, &node, small);
    let pods: Vec<Netns> = (0..5).map(|n| lab.netns(&format!("p{n}"))).collect();
    let all: Vec<Attachment> = (pods.iter().enumerate())
        .map(|(n, netns)| add(&daemon, &request(&format!("p{n}"), netns)))
        .collect();
    let spare = lab.netns("spare");
    let full = refused(&daemon, &request("spare", &spare));
    assert_eq!(full.code, Code::Exhausted, "{full}");
    assert_eq!(problems(&daemon), [Unready::AddressesExhausted]);

    let id = all[0].id();
    assert_eq!(check(&daemon, &id, &pods[0]), Vec::<String>::new());
    pods[0].ip("addr del 10.244.1.2/29 dev eth0");
    pods[0].ip("link set eth0 address 02:00:00:00:00:99");
    let found = check(&daemon, &id, &pods[0]);
    let has = |text: &str| assert!(found.iter().any(|d| d.contains(text)), "{text}: {found:?}");
    has("eth0 does not have the address 10.244.1.2/29");
    has("the MAC address of eth0 is 02:00:00:00:00:99, and should be 0a:58:0a:f4:01:02");
    pods[1].ip("route del default");
    let found = check(&daemon, &all[1].id(), &pods[1]);
    assert_eq!(found, ["there is no route to 0.0.0.0/0 via 10.244.1.1 on eth0"]);
    pods[2].ip("link del eth0");
    let found = check(&daemon, &all[2].id(), &pods[2]);
    assert!(found.iter().any(|d| d == "there is no interface eth0 in the pod"), "{found:?}");

    let valid = |n: usize| ValidAttachment { container_id: format!("p{n}"), ifname: "eth0".into() };
    let gc = AttachmentGc { network: "pod-network".into(), valid: vec![valid(0), valid(1)] };
    let removed = match call(&daemon, Request::AttachmentGc(gc)) {
        Ok(Response::AttachmentGc(removed)) => removed.removed,
        other => panic!("attachment.gc: {other:?}"),
    };
    let expected: Vec<AttachmentId> = all[2..].iter().map(Attachment::id).collect();
    assert_eq!(removed, expected);
    assert_eq!(problems(&daemon), []);
    ping_once(&pods[1], "10.244.1.1");
    daemon.finish();
}

#[test]
fn pods_reach_the_world_under_the_nodes_address() {
    let Some(lab) = Lab::beside_others() else { return };
    let [node, world] = ["n", "world"].map(|n| lab.netns(n));
    join(&node, "wan0", &world, "wan0");
    for (netns, n) in [(&node, 1), (&world, 9)] {
        netns.ip(&format!("addr add 198.51.100.{n}/24 dev wan0"));
        netns.ip(&format!("addr add 2001:db8:51::{n}/64 dev wan0 nodad"));
    }
    // Others' rules stay as they are.
    node.sh("nft add table inet others");
    let daemon = Daemon::start(&lab, &node, NODE);
    let [asking, plain] = ["asking", "plain"].map(|n| lab.netns(n));
    let asked = AttachmentAdd { masquerade: true, ..request("asking", &asking) };
    let asked = add(&daemon, &asked);
    // The world knows no way back to a pod's address.
    ping_once(&asking, "198.51.100.9");
    ping_once(&asking, "2001:db8:51::9");
    let other = add(&daemon, &request("plain", &plain));
    assert_ne!(plain.try_sh("ping -c 1 -W 1 198.51.100.9").code, 0, "it did not ask for it");
    ping_once(&asking, "198.51.100.9");
    // Pods see one another's own addresses.
    plain.sh("nft add table ip seen");
    plain.sh("nft add chain ip seen input { type filter hook input priority 0 ; }");
    plain.sh(&format!(
        "nft add rule ip seen input ip saddr {} counter",
        asked.ips[0].address.addr()
    ));
    ping_once(&asking, &other.ips[0].address.addr().to_string());
    assert!(plain.sh("nft list table ip seen").contains("packets 1 "), "under its own address");

    // The rules outlive the daemon with the pods, and go with the last pod that wants them.
    daemon.crash();
    ping_once(&node, "198.51.100.9");
    let daemon = Daemon::start(&lab, &node, NODE);
    ping_once(&asking, "198.51.100.9");
    del(&daemon, asked.id());
    wait_until("nobody asks for it", Duration::from_secs(5), || {
        !node.sh("nft list set inet podswitch masquerade4").contains("elements")
    });
    assert_ne!(plain.try_sh("ping -c 1 -W 1 198.51.100.9").code, 0);
    del(&daemon, other.id());
    let tables = || node.sh("nft list tables");
    wait_until("the rules are gone", Duration::from_secs(5), || !tables().contains("podswitch"));
    assert!(tables().contains("inet others"));
    daemon.finish_leaving(&["lo", "wan0"]);
}

/// What the kernel redirects, as `portmap` and kube-proxy have it do: a node's port to a pod, and a
/// service's address to a pod of another node. A pod's answer to a pod would take the direct way.
#[test]
fn pods_reach_what_the_kernel_redirects_to_pods() {
    let Some(lab) = Lab::beside_others() else { return };
    let spaces = [lab.netns("n1"), lab.netns("n2")];
    join(&spaces[0], "uplink0", &spaces[1], "uplink0");
    let nodes = [1, 2].map(|n| Node::start(&lab, &spaces[usize::from(n) - 1], n, Way::Vxlan, ""));
    let [far, near, web] = ["far", "near", "web"].map(|name| lab.netns(name));
    add(&nodes[0].daemon, &request("far", &far));
    add(&nodes[1].daemon, &request("near", &near));
    let server = add(&nodes[1].daemon, &request("web", &web));
    let [v4, v6] = [0, 1].map(|i| server.ips[i].address.addr());
    for (space, dnat) in [
        (&spaces[1], format!("ip daddr 192.0.2.2 tcp dport 8080 dnat ip to {v4}:80")),
        (&spaces[1], format!("ip6 daddr 2001:db8::2 tcp dport 8080 dnat ip6 to [{v6}]:80")),
        (&spaces[0], format!("ip daddr 10.96.0.1 tcp dport 8080 dnat ip to {v4}:80")),
    ] {
        space.sh("nft add table inet services");
        let chain = "{ type nat hook prerouting priority dstnat ; }";
        space.sh(&format!("nft add chain inet services prerouting {chain}"));
        space.sh(&format!("nft add rule inet services prerouting {dnat}"));
    }
    let listener = web.enter(|| TcpListener::bind("[::]:80").expect("a port of its own"));
    // Who the server sees.
    let reach = |client: &Netns, to: &str| {
        let to = format!("{to}:8080").parse().expect("an address");
        let stream = client.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)));
        stream.unwrap_or_else(|e| panic!("{} -> {to}: {e}", client.name()));
        listener.accept().expect("a connection").1.ip().to_canonical()
    };
    let gateway = server.ips[0].gateway.expect("the switch");
    assert_eq!(reach(&far, "192.0.2.2"), gateway);
    assert_eq!(reach(&near, "192.0.2.2"), gateway);
    assert_eq!(reach(&far, "[2001:db8::2]"), server.ips[1].gateway.expect("the switch"));
    assert_eq!(reach(&far, "10.96.0.1").to_string(), "10.244.1.1", "the far node redirects");
    // Who is no pod is seen as itself.
    assert_eq!(reach(&spaces[0], "192.0.2.2").to_string(), "192.0.2.1");
    for node in nodes {
        node.daemon.finish();
    }
}

#[test]
fn attachments_on_two_nodes_reach_one_another() {
    let Some(lab) = Lab::beside_others() else { return };
    let spaces = [lab.netns("n1"), lab.netns("n2")];
    join(&spaces[0], "uplink0", &spaces[1], "uplink0");
    let nodes = [1, 2].map(|n| Node::start(&lab, &spaces[usize::from(n) - 1], n, Way::Vxlan, ""));
    let pods = [lab.netns("a"), lab.netns("b")];
    // The underlay's neighbours are resolved when the first packet comes.
    spaces[0].sh("ping -c 1 -W 1 192.0.2.2");
    let there = add(&nodes[1].daemon, &request("b", &pods[1]));
    add(&nodes[0].daemon, &request("a", &pods[0]));
    for ip in &there.ips {
        ping_once(&pods[0], &ip.address.addr().to_string());
    }
    ping_once(&spaces[0], "10.244.2.2");
    for node in nodes {
        node.daemon.finish();
    }
}

#[test]
fn a_crash_in_the_middle_leaves_nothing_behind() {
    let Some(lab) = Lab::beside_others() else { return };
    let node = lab.netns("n");
    let pods: Vec<Netns> = (0..8).map(|n| lab.netns(&format!("p{n}"))).collect();
    let requests: Vec<AttachmentAdd> =
        pods.iter().enumerate().map(|(n, p)| request(&format!("p{n}"), p)).collect();
    let mut daemon = Daemon::start(&lab, &node, NODE);
    let ours =
        || node.links().into_iter().filter(|l| l.starts_with("psw") && l != "pswhost").count();
    for millis in [30, 90, 200] {
        // All at once, as a runtime that starts a node's pods does it.
        let all = |make: &(dyn Fn(&AttachmentAdd) -> Request + Sync)| {
            let socket = daemon.socket().to_owned();
            let ask = |request: &AttachmentAdd| -> Option<Response> {
                Client::connect(&socket).ok()?.call(&make(request)).ok()
            };
            std::thread::scope(|scope| {
                let ask = &ask;
                let threads: Vec<_> =
                    requests.iter().map(|r| scope.spawn(move || ask(r))).collect();
                std::thread::sleep(Duration::from_millis(millis));
                nix::sys::signal::kill(daemon.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
                threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
            })
        };
        let answers = all(&|r| Request::AttachmentAdd(r.clone()));
        daemon.crash();
        daemon = Daemon::start(&lab, &node, NODE);
        // What was confirmed is there; what was not is as if it had never been asked for, or is there.
        for (request, answer) in requests.iter().zip(answers) {
            let attached = add(&daemon, request);
            if let Some(Response::AttachmentAdd(before)) = answer {
                assert_eq!(attached, before);
            }
        }
        let listed = list(&daemon);
        let ips: std::collections::BTreeSet<String> =
            listed.iter().map(|a| a.ips[0].address.to_string()).collect();
        assert_eq!((listed.len(), ips.len(), ours()), (8, 8, 8));
        ping_once(&pods[7], "10.244.1.1");

        let all = |daemon: &Daemon| {
            let socket = daemon.socket().to_owned();
            std::thread::scope(|scope| {
                for request in &requests {
                    let socket = &socket;
                    scope.spawn(move || {
                        Client::connect(socket)
                            .ok()?
                            .call(&Request::AttachmentDel(request.id()))
                            .ok()
                    });
                }
                std::thread::sleep(Duration::from_millis(millis));
                nix::sys::signal::kill(daemon.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
            });
        };
        all(&daemon);
        daemon.crash();
        daemon = Daemon::start(&lab, &node, NODE);
        assert_eq!(ours(), list(&daemon).len(), "an interface for each that is left, and no more");
        for request in &requests {
            del(&daemon, request.id());
        }
        assert_eq!((ours(), list(&daemon).len()), (0, 0));
    }
    daemon.finish_leaving(&["lo"]);
}
