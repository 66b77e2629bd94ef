//! Wrong arguments of the benches: refused before anything starts, by the option that is wrong.

use podswitch_tests::run;

#[test]
fn wrong_arguments_are_refused_by_name_value_and_what_is_expected() {
    for (words, said) in [
        (["--switch", "nope"], ["--switch", "'nope'", "kernel; kernel, threaded NAPI; Open"]),
        (["--sizes", "59"], ["--sizes", "'59'", "60..=1514"]),
        (["--sizes", "64,1515"], ["--sizes", "'1515'", "60..=1514"]),
        (["--rounds", "0"], ["--rounds", "'0'", "1.."]),
        (["--seconds", "0"], ["--seconds", "'0'", "0.001 to 20"]),
        (["--seconds", "21"], ["--seconds", "'21'", "0.001 to 20"]),
        (["--variant", "foo=1"], ["--variant foo=1", "[switch]", "foo"]),
        (["--variant", "spin=-1"], ["--variant spin=-1", "[switch]", "spin"]),
        // Throughput has one worker on a CPU of its own.
        (["--variant", "workers=2"], ["--variant workers=2", "[switch]", "workers"]),
        (["--pod", "tap,70000"], ["--pod", "'tap,70000'", "68 to 65521"]),
        (["--pod", "vhost"], ["--pod", "'vhost'", "veth or tap"]),
        (["--against", "/nonexistent"], ["--against", "'/nonexistent'", "a file"]),
    ] {
        let done = run(&[&[env!("CARGO_BIN_EXE_podswitch-bench-e2e")], &words[..]].concat());
        assert_eq!(done.code, 2, "{words:?}: {}", done.stderr);
        for part in said {
            assert!(done.stderr.contains(part), "{words:?}: {part} is not in {}", done.stderr);
        }
    }
}
