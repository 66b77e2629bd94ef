//! The settings by themselves.

use podswitch_api::state::Switch;

use super::{Finding, Level};

/// What does not fit together in the settings of a switch.
pub fn check(switch: &Switch) -> Vec<Finding> {
    vec![spin(switch), buffers(switch)]
}

fn spin(switch: &Switch) -> Finding {
    let found = match switch.spin {
        0 => "workers sleep when there is nothing to do".to_owned(),
        us => format!("workers look for more work for {us} µs before they sleep"),
    };
    Finding::ok("spin", found).unless(
        switch.spin > 0 && switch.cpus.is_empty(),
        Level::Advice,
        "they run where the pods run, and take that time from them",
        "set cpus in [switch] to CPUs that nothing else runs on, or spin to 0",
    )
}

fn buffers(switch: &Switch) -> Finding {
    let (frames, ring) = (switch.frames, switch.ring);
    Finding::ok("buffers", format!("{frames} buffers a worker, rings of {ring}")).unless(
        frames < 2 * ring,
        Level::Advice,
        "one busy port's ring could hold most of the buffers, and is not given them: the rings are longer \
         than they can ever be filled",
        format!("set ring in [switch] to {} at most, or frames to {}", frames / 2, 2 * ring),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_fit_together() {
        let bad = |switch: Switch| {
            let found = check(&switch).into_iter();
            found.filter(|f| f.level != Level::Ok).map(|f| f.check).collect::<Vec<_>>()
        };
        let switch = Switch::default;
        assert_eq!(bad(switch()), [""; 0]);
        assert_eq!(bad(Switch { spin: 20, ..switch() }), ["spin"]);
        assert_eq!(bad(Switch { spin: 20, cpus: vec![1], ..switch() }), [""; 0]);
        assert_eq!(bad(Switch { ring: 4096, ..switch() }), ["buffers"]);
        assert_eq!(bad(Switch { ring: 4096, frames: 8192, ..switch() }), [""; 0]);
    }
}
