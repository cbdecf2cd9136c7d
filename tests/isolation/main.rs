//! Isolation, proved offline: the policies that ship are resolved for a tooling account and its tenants, and judged on a
//! grid of requests against a specification that was written apart from them. Then they are weakened one by one: the grid
//! has to notice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "the figures are what a reader wants of it")]

mod grid;
mod iam;
mod mutants;
mod spec;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use grid::{Layer, layers};
use world::{Mode, Place, World};

fn holds(mode: Mode) {
    let world = World::new(mode);
    let begun = Instant::now();
    let layers: Vec<Layer> = layers(mode);
    let mut wrong = Vec::new();
    for layer in &layers {
        let (allowed, denied): (Vec<_>, Vec<_>) = layer.cases.iter().partition(|case| case.allowed);
        println!(
            "{:<40} {:>6} requests, {:>5} allowed, {:>6} denied",
            layer.name,
            layer.cases.len(),
            allowed.len(),
            denied.len()
        );
        wrong.extend(
            layer
                .cases
                .iter()
                .filter(|case| !case.holds(&world))
                .map(|case| format!("{} is {}", case.label, if case.allowed { "denied" } else { "ALLOWED" })),
        );
    }
    let total: usize = layers.iter().map(|layer| layer.cases.len()).sum();
    println!("{mode:?}: {total} requests in {} layers, {:.1} s", layers.len(), begun.elapsed().as_secs_f64());
    let shown: Vec<&String> = wrong.iter().take(30).collect();
    assert!(wrong.is_empty(), "{} are not as specified, as {shown:#?}", wrong.len());
}

#[test]
fn in_an_organization_everybody_can_do_what_is_specified_and_nothing_else() {
    holds(Mode::Organization);
}

#[test]
fn where_accounts_are_listed_everybody_can_do_what_is_specified_and_nothing_else() {
    holds(Mode::Listed);
}

/// Every policy is weakened, and narrowed, one step at a time; the grid of its own layers has to tell each from the original.
#[test]
fn a_policy_that_is_weakened_is_noticed() {
    let begun = Instant::now();
    let modes = [Mode::Organization, Mode::Listed].map(|mode| (World::new(mode), layers(mode)));
    let mut all = Vec::new();
    for (number, (world, layers)) in modes.iter().enumerate() {
        for place in mutants::places(layers) {
            // What is the same in both modes is weakened once.
            if number == 1 && modes[0].0.document(&place) == world.document(&place) {
                continue;
            }
            all.extend(mutants::of(world.document(&place)).into_iter().map(|mutant| (number, place, mutant)));
        }
    }
    let is_noticed = |number: usize, place: &Place, mutant: &mutants::Mutant| {
        let (world, layers) = &modes[number];
        let mutated = world.with(place, mutant.document.clone());
        let mut asked = layers.iter().filter(|layer| layer.places.contains(place));
        asked.any(|layer| layer.cases.iter().any(|case| !case.holds(&mutated)))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut killed, mut survivors) = (0, Vec::new());
        while let Some((number, place, mutant)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            if is_noticed(*number, place, mutant) {
                killed += 1;
            } else {
                survivors.push(format!("{} {}: {}", place.resource, place.pointer, mutant.what));
            }
        }
        (killed, survivors)
    };
    let results: Vec<(usize, Vec<String>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let killed: usize = results.iter().map(|(killed, _)| killed).sum();
    let mut survivors: Vec<String> = results.into_iter().flat_map(|(_, survivors)| survivors).collect();
    survivors.sort();
    println!("{killed} of {} mutants are noticed, {:.1} s", killed + survivors.len(), begun.elapsed().as_secs_f64());
    for (known, why) in mutants::EQUIVALENT {
        println!("equivalent: {known}: {why}");
        assert!(survivors.iter().any(|survivor| survivor == known), "{known} is called equivalent, and was noticed");
    }
    survivors.retain(|survivor| mutants::EQUIVALENT.iter().all(|(known, _)| known != survivor));
    assert!(survivors.is_empty(), "not noticed, and not proved to be equivalent: {survivors:#?}");
}
