//! STATUS, which is there from 1.1.0 on.

crate::conformance!(own_ipam, "Debian's plugins end at 1.0.0":
    ready_is_silence,
    exhausted_addresses,
    exhausted_ports,
    masquerading_that_is_impossible,
    the_daemon_is_missing,
    it_is_there_from_1_1_0_on,
);

mod cases {
    use podswitch_tests::{Daemon, Netns, ping};
    use serde_json::json;

    use crate::Ground;

    pub fn ready_is_silence(ground: &mut Ground) {
        let call = ground.bare("STATUS", &ground.conf());
        call.run(&ground.node).silence();
        call.without("CNI_PATH").run(&ground.node).silence();
    }

    pub fn exhausted_addresses(ground: &mut Ground) {
        ground.daemon.take().expect("a daemon").finish();
        // Two addresses: of four, one names the subnet, one is the broadcast, one the gateway's.
        let config = "[switch]\nworkers = 1\n[node]\nname = \"node1\"\n\
            pod_cidrs = [\"10.244.1.0/30\"]\ngateway = true\n";
        ground.daemon = Some(Daemon::start(&ground.lab, &ground.node, config));
        let (one, other) = (ground.container("c1"), ground.container("c2"));
        ground.add(&one);
        let said = ground.bare("STATUS", &ground.conf()).run(&ground.node);
        let text = said.fails_with(50);
        assert!(text.contains("10.244.1.0/30"), "{text}");
        ground.run("ADD", &other, &ground.conf()).fails_with(102);
        // STATUS keeps nobody from other commands.
        ground.del(&other);
        ground.del(&one);
        ground.bare("STATUS", &ground.conf()).run(&ground.node).silence();
    }

    /// 1024 buffers do for 64 ports, one of which is the node's, and for a few frames that are under way.
    pub fn exhausted_ports(ground: &mut Ground) {
        ground.daemon.take().expect("a daemon").finish();
        let config = crate::ground::NODE.replace("[switch]\n", "[switch]\nframes = 1024\n");
        ground.daemon = Some(Daemon::start(&ground.lab, &ground.node, &config));
        let status = ground.bare("STATUS", &ground.conf());
        let pods: Vec<Netns> = (0..63).map(|n| ground.container(&format!("c{n}"))).collect();
        for pod in &pods {
            status.run(&ground.node).silence();
            ground.add(pod);
        }
        // Those that there are work, each and after each other.
        pods.iter().for_each(|pod| ping(pod, "10.244.1.1"));
        let text = status.run(&ground.node).fails_with(50);
        assert!(text.contains("[switch] frames"), "{text}");
        let one_more = ground.container("more");
        let text = ground.run("ADD", &one_more, &ground.conf()).fails_with(102);
        assert!(text.contains("[switch] frames"), "{text}");
        ground.del(&one_more);
        ground.del(&pods[0]);
        status.run(&ground.node).silence();
        ground.add(&one_more);
        pods[1..].iter().chain([&one_more]).for_each(|pod| ground.del(pod));
    }

    /// Without `nft` pods can be plugged in, but for those that ask for `ipMasq`.
    pub fn masquerading_that_is_impossible(ground: &mut Ground) {
        let mut asking = ground.conf();
        asking["ipMasq"] = json!(true);
        ground.bare("STATUS", &asking).run(&ground.node).silence();
        ground.daemon.take().expect("a daemon").finish();
        let daemon = Daemon::start_without_tools(&ground.lab, &ground.node, crate::ground::NODE);
        ground.daemon = Some(daemon);
        ground.bare("STATUS", &ground.conf()).run(&ground.node).silence();
        let text = ground.bare("STATUS", &asking).run(&ground.node).fails_with(50);
        assert!(text.contains("install the package nftables"), "{text}");
        let (one, other) = (ground.container("c1"), ground.container("c2"));
        let text = ground.run("ADD", &one, &asking).fails_with(5);
        assert!(text.contains("install the package nftables"), "{text}");
        assert_eq!(crate::ground::kernel(&one, "eth0"), None);
        ground.run("DEL", &one, &asking).silence();
        ground.add(&other);
        ping(&other, "10.244.1.1");
        ground.del(&other);
    }

    pub fn the_daemon_is_missing(ground: &mut Ground) {
        let call = ground.bare("STATUS", &ground.conf());
        let call = call.env("PODSWITCH_SOCKET", "/nonexistent/podswitch.sock");
        let text = call.run(&ground.node).fails_with(51);
        assert!(text.contains("systemctl start podswitch"), "{text}");
    }

    pub fn it_is_there_from_1_1_0_on(ground: &mut Ground) {
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            ground.bare("STATUS", &ground.conf_in(version)).run(&ground.node).fails_with(1);
        }
    }
}
