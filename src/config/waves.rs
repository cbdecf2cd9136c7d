//! Which target is in which wave of its stage.

use std::time::Duration;

use super::schema;
use crate::domain::{Quota, Rollout, Wave};

/// Reads a stage's policy.
pub(super) fn policy(given: &schema::Rollout) -> Rollout {
    let standard = Rollout::default();
    Rollout {
        max_concurrency: given.max_concurrency.map_or(standard.max_concurrency, |amount| amount.0),
        failure_tolerance: given.failure_tolerance.map_or(standard.failure_tolerance, |amount| amount.0),
        concurrency_mode: given.concurrency_mode,
        waves: waves(given),
        on_failure: given.on_failure,
        alarms: given
            .alarms
            .iter()
            .filter(|alarm| alarm.account == schema::AlarmAccount::Tooling)
            .map(|alarm| alarm.name.clone())
            .collect(),
        breaker: given.breaker,
        requeue: given.requeue,
        deadline: given.deadline.map_or(standard.deadline, |span| span.0),
    }
}

/// Names the waves: the canary, those that have a size, and the rest.
fn waves(given: &schema::Rollout) -> Vec<Wave> {
    let bake = given.bake.map_or(Duration::ZERO, |span| span.0);
    let canary = given.canary.as_ref().map(|canary| Wave {
        name: "canary".to_owned(),
        bake: canary.bake.map_or(bake, |span| span.0),
        failure_tolerance: Some(canary.failure_tolerance.map_or(Quota::Count(0), |amount| amount.0)),
    });
    let wave = |name: String| Wave { name, bake, failure_tolerance: None };
    let sized = (1..=given.waves.len()).map(|number| wave(format!("wave {number}")));
    let mut waves: Vec<Wave> = canary.into_iter().chain(sized).collect();
    if !waves.is_empty() {
        waves.push(Wave { bake: Duration::ZERO, ..wave("rest".to_owned()) });
    }
    waves
}

/// Returns the wave of each target, in their order; `is_canary` tells of each whether it belongs to the canary.
///
/// Shares are of the stage without its canary, rounded down, and never less than one target.
pub(super) fn assign(given: &schema::Rollout, is_canary: &[bool]) -> Vec<u32> {
    let first = u32::from(given.canary.is_some());
    let others = is_canary.iter().filter(|canary| !**canary).count();
    let sizes = given.waves.iter().map(|amount| amount.0.of(others).max(1));
    // Where each wave ends, among those that are no canary.
    let ends: Vec<usize> = sizes
        .scan(0, |end, size| {
            *end += size;
            Some(*end)
        })
        .collect();
    let mut place = 0;
    let wave = |canary: &bool| {
        if *canary {
            return 0;
        }
        place += 1;
        let passed = ends.iter().filter(|end| place > **end).count();
        first + u32::try_from(passed).unwrap_or(u32::MAX)
    };
    is_canary.iter().map(wave).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::schema::{Amount, Canary};
    use super::*;

    fn given(canary: bool, waves: &[Quota]) -> schema::Rollout {
        schema::Rollout {
            canary: canary.then(Canary::default),
            waves: waves.iter().copied().map(Amount).collect(),
            ..schema::Rollout::default()
        }
    }

    #[test]
    fn the_canary_is_first_and_shares_are_of_the_others() {
        let is_canary: Vec<bool> = (0..10).map(|number| number == 3 || number == 7).collect();
        let waves = [Quota::Percent(25), Quota::Count(3)];
        assert_eq!(assign(&given(true, &waves), &is_canary), [1, 1, 2, 0, 2, 2, 3, 0, 3, 3]);
        let names: Vec<String> = policy(&given(true, &waves)).waves.into_iter().map(|wave| wave.name).collect();
        assert_eq!(names, ["canary", "wave 1", "wave 2", "rest"]);
        assert_eq!(assign(&given(false, &[Quota::Percent(1)]), &[false; 3]), [0, 1, 1], "a wave has a target");
        assert_eq!(assign(&given(false, &[]), &[false; 3]), [0, 0, 0]);
    }

    proptest! {
        /// Nobody is left out, no wave is larger than asked for, and their order is that of the targets.
        #[test]
        fn every_target_has_a_wave(
            is_canary in prop::collection::vec(any::<bool>(), 0..200),
            canary in any::<bool>(),
            percents in prop::collection::vec(0u8..=100, 0..5),
        ) {
            let is_canary: Vec<bool> = is_canary.into_iter().map(|one| one && canary).collect();
            let quotas: Vec<Quota> = percents.into_iter().map(Quota::Percent).collect();
            let given = given(canary, &quotas);
            let known = policy(&given).waves.len().max(1);
            let waves = assign(&given, &is_canary);
            prop_assert_eq!(waves.len(), is_canary.len());
            let others: Vec<u32> =
                waves.iter().zip(&is_canary).filter(|(_, canary)| !**canary).map(|(wave, _)| *wave).collect();
            prop_assert!(others.is_sorted());
            for (number, quota) in quotas.iter().enumerate() {
                let wave = u32::try_from(number).unwrap() + u32::from(canary);
                let size = others.iter().filter(|other| **other == wave).count();
                prop_assert!(size <= quota.of(others.len()).max(1));
            }
            prop_assert!(waves.iter().all(|wave| (*wave as usize) < known));
        }
    }
}
