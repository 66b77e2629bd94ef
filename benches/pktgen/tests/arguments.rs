//! Wrong arguments of the command: refused before anything starts, by the option that is wrong.

use podswitch_tests::run;

/// What the command says of arguments that it refuses, here on interfaces that are not there.
fn refusal(words: &str) -> String {
    let tool = env!("CARGO_BIN_EXE_podswitch-pktgen");
    let (command, options) = words.split_once(' ').expect("a command and its options");
    let places = ["qg-no-such:from0", "qg-no-such:to0"];
    let options: Vec<&str> = options.split(' ').collect();
    let done = run(&[&[tool, command], &places[..], &options].concat());
    assert_eq!(done.code, 2, "{words}: {}", done.stderr);
    assert_eq!(done.stdout, "", "{words}");
    done.stderr
}

#[test]
fn wrong_arguments_are_refused_by_name_value_and_range() {
    let vxlan = "--outer-src 192.0.2.1 --outer-dst 192.0.2.2";
    for (words, said) in [
        ("measure --flows 0", vec!["--flows", "'0'", "1..=64512"]),
        ("measure --flows 70000", vec!["--flows", "'70000'", "1..=64512"]),
        ("measure --macs 0", vec!["--macs", "'0'", "1..=65536"]),
        ("measure --macs 65537", vec!["--macs", "'65537'", "1..=65536"]),
        (&format!("measure --vni 16777216 {vxlan}"), vec!["--vni", "'16777216'", "0..=16777215"]),
        (&format!("measure --vni 16777215 --vnis 2 {vxlan}"), vec!["--vnis 2", "1 to 1"]),
        ("measure --engine live --rate 1000", vec!["--engine live", "--rate", "--engine xdp"]),
        ("measure --engine live --size imix", vec!["--engine live", "--size imix"]),
        ("search --engine live", vec!["--engine live", "a search", "--engine xdp"]),
        ("measure --engine kernel", vec!["--engine kernel", "--sink kernel"]),
        (
            "measure --engine kernel --sink kernel --macs 2",
            vec!["--macs 2", "--src-mac", "--dst-mac"],
        ),
        ("measure --src-mac 02:00:00:00:00:02", vec!["--src-mac 02:00:00:00:00:02", "--dst-mac"]),
        ("measure --src-mac 01:00:5e:00:00:01", vec!["--src-mac 01:00:5e", "not of a group"]),
        ("measure --frames 0", vec!["--frames", "'0'", "1.."]),
        ("measure --seconds 0", vec!["--seconds", "'0'", "0.001 to 120"]),
        ("measure --rate 0", vec!["--rate", "'0'", "more than 0"]),
        ("measure --size 59", vec!["--size", "'59'", "60 to 1514"]),
        ("search --tolerate 101", vec!["--tolerate", "'101'", "0 to 100"]),
        ("search --plot /nonexistent/x.svg", vec!["--plot /nonexistent/x.svg", "No such file"]),
        ("measure --rate 9 --plot x.svg", vec!["--plot x.svg", "no latency", "--sink xdp"]),
        ("measure --sink xdp --plot x.svg", vec!["--plot x.svg", "no latency", "--engine xdp"]),
    ] {
        let stderr = refusal(words);
        for part in said {
            assert!(stderr.contains(part), "{words}: {part} is not in {stderr}");
        }
    }
}

#[test]
fn an_interface_is_not_both_ends() {
    let tool = env!("CARGO_BIN_EXE_podswitch-pktgen");
    for other in ["lo", "/proc/self/ns/net:lo"] {
        let done = run(&[tool, "measure", "lo", other]);
        assert_eq!(done.code, 2, "{}", done.stderr);
        assert!(done.stderr.contains("FROM and TO"), "{}", done.stderr);
    }
}

#[test]
fn the_help_has_the_ranges() {
    let tool = env!("CARGO_BIN_EXE_podswitch-pktgen");
    let help =
        run(&[tool, "measure", "--help"]).success() + &run(&[tool, "search", "--help"]).success();
    for range in ["1 to 64512", "1 to 65536", "0 to 16777215", "0.001 to 120", "from 0 to 100"] {
        assert!(help.contains(range), "{range}: {help}");
    }
}
