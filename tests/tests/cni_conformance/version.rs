//! VERSION.

crate::conformance!(all: it_tells_the_versions_and_needs_nothing_but_the_command);
mod ours {
    crate::conformance!(ours, "libcni's skeleton answers with its own version, not the input's":
        it_tells_the_version_of_the_input);
    use super::cases;
}

mod cases {
    use serde_json::json;

    use crate::Ground;

    pub fn it_tells_the_versions_and_needs_nothing_but_the_command(ground: &mut Ground) {
        let input = json!({"cniVersion": "1.0.0"});
        let said = ground.bare("VERSION", &input).without("CNI_PATH").run(&ground.node);
        let result = said.result();
        assert_eq!(result["cniVersion"], "1.0.0");
        let supported = result["supportedVersions"].as_array().expect("a list");
        for version in ground.versions() {
            assert!(supported.iter().any(|v| v == version), "{version}: {result}");
        }
    }

    pub fn it_tells_the_version_of_the_input(ground: &mut Ground) {
        for version in ["0.3.1", "1.1.0", "9.0.0"] {
            let input = json!({"cniVersion": version});
            let result = ground.bare("VERSION", &input).run(&ground.node).result();
            assert_eq!(result["cniVersion"], version);
        }
    }
}
