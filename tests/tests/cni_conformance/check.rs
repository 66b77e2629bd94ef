//! CHECK.

crate::conformance!(all:
    right_after_add_all_is_well,
    what_is_missing_is_an_error,
    a_previous_result_is_required,
    it_is_there_from_0_4_0_on,
);
mod delegated {
    crate::conformance!(delegating: a_reservation_that_is_missing_is_an_error);
    use super::cases;
}
mod ours {
    crate::conformance!(ours, "bridge's own plugins cannot be asked for these":
        the_difference_is_named, what_spoils_packets_is_named, the_daemon_is_missing);
    use super::cases;
}

mod cases {
    use crate::Ground;

    pub fn right_after_add_all_is_well(ground: &mut Ground) {
        let container = ground.container("c1");
        for version in ground.versions().iter().filter(|v| **v != "0.3.1") {
            let result = ground.run("ADD", &container, &ground.conf_in(version)).result();
            ground.run("CHECK", &container, &ground.after(&result)).silence();
            ground.run("CHECK", &container, &ground.after(&result)).silence();
            ground.del(&container);
        }
    }

    pub fn what_is_missing_is_an_error(ground: &mut Ground) {
        let container = ground.container("c1");
        for damage in [
            "address flush dev eth0",
            "route del default",
            "link set eth0 address 02:00:00:00:00:99",
            "link del eth0",
        ] {
            let result = ground.add(&container);
            container.ip(damage);
            ground.run("CHECK", &container, &ground.after(&result)).error();
            ground.del(&container);
        }
    }

    pub fn a_previous_result_is_required(ground: &mut Ground) {
        let container = ground.container("c1");
        ground.add(&container);
        ground.run("CHECK", &container, &ground.conf()).error();
        ground.del(&container);
    }

    pub fn it_is_there_from_0_4_0_on(ground: &mut Ground) {
        let container = ground.container("c1");
        let result = ground.run("ADD", &container, &ground.conf_in("0.3.1")).result();
        ground.run("CHECK", &container, &ground.after(&result)).fails_with(1);
        ground.del(&container);
    }

    pub fn a_reservation_that_is_missing_is_an_error(ground: &mut Ground) {
        let container = ground.container("c1");
        let result = ground.add(&container);
        let address = &ground.allocated()[0];
        let folder = ground.lab.folder().join("reservations").join(crate::ground::NETWORK);
        std::fs::remove_file(folder.join(address)).expect("a reservation");
        ground.run("CHECK", &container, &ground.after(&result)).error();
        ground.del(&container);
    }

    pub fn the_difference_is_named(ground: &mut Ground) {
        let container = ground.container("c1");
        let result = ground.add(&container);
        container.ip("route del default");
        let text = ground.run("CHECK", &container, &ground.after(&result)).fails_with(103);
        assert!(text.contains("0.0.0.0/0"), "{text}");
        ground.del(&container);
    }

    /// With these, ping works and TCP does not.
    pub fn what_spoils_packets_is_named(ground: &mut Ground) {
        let container = ground.container("c1");
        let result = ground.add(&container);
        let check = ground.call("CHECK", &container, &ground.after(&result));
        container.sh("ethtool -K eth0 tx on");
        let text = check.run(&ground.node).fails_with(103);
        assert!(text.contains("ethtool -K eth0 tx off"), "{text}");
        container.sh("ethtool -K eth0 tx off");
        check.run(&ground.node).silence();
        let dev = result["interfaces"][0]["name"].as_str().expect("the node's end");
        ground.node.ip(&format!("link set {dev} mtu 1400"));
        let text = check.run(&ground.node).fails_with(103);
        assert!(text.contains(&format!("the MTU of {dev} is 1400")), "{text}");
        ground.del(&container);
    }

    pub fn the_daemon_is_missing(ground: &mut Ground) {
        let container = ground.container("c1");
        let result = ground.add(&container);
        let call = ground.call("CHECK", &container, &ground.after(&result));
        let call = call.env("PODSWITCH_SOCKET", "/nonexistent/podswitch.sock");
        call.run(&ground.node).fails_with(11);
        ground.del(&container);
    }
}
