//! STATUS, which is there from 1.1.0 on.

crate::conformance!(own_ipam, "Debian's plugins end at 1.0.0":
    ready_is_silence,
    exhausted_addresses,
    the_daemon_is_missing,
    it_is_there_from_1_1_0_on,
);

mod cases {
    use podswitch_tests::Daemon;

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
