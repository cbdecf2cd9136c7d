//! A sliding window over many pieces of work.

use std::future::Future;

use tokio::task::JoinSet;

use super::Stop;

/// Targets that are in work at a time where each makes one request after the other: as many as there are requests in
/// flight at most. CloudFormation limits each account, and each target is an account of its own.
pub const WIDE: usize = 256;

/// Whether further work is started after a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Start,
    /// Go on, with at most so many in work from now on.
    AtMost(usize),
    /// Let what runs come to its end, and start nothing more.
    Hold,
}

/// Runs `work` for every item, at most `limit` at a time, and returns the results in the order of the items;
/// an item that was never started comes back as it was.
///
/// A place is filled as soon as it is free, so that a slow item delays nobody. `judge` sees each result as it
/// comes and can hold back the rest, as does a requested stop; what runs is never aborted, since dropping a
/// future does not stop CloudFormation (safety rule 6).
///
/// Why not a bare `JoinSet`? It has no bound and no order. Why not `buffer_unordered`? All its futures run on
/// one task, so a busy one delays the rest.
pub async fn run<T, R, F>(
    items: Vec<T>,
    limit: usize,
    stop: &Stop,
    work: impl Fn(T) -> F,
    mut judge: impl FnMut(&R) -> Flow,
) -> Vec<Result<R, T>>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let total = items.len();
    let mut results: Vec<Option<Result<R, T>>> = Vec::new();
    results.resize_with(total, || None);
    let mut waiting = items.into_iter().enumerate();
    let mut running = JoinSet::new();
    let mut limit = limit;
    let mut flow = Flow::Start;
    loop {
        while flow != Flow::Hold && !stop.is_requested() && running.len() < limit.max(1) {
            let Some((index, item)) = waiting.next() else { break };
            let future = work(item);
            running.spawn(async move { (index, future.await) });
        }
        let Some(joined) = running.join_next().await else { break };
        let (index, result) = joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        match judge(&result) {
            Flow::Start => {}
            Flow::AtMost(most) => limit = most,
            Flow::Hold => flow = Flow::Hold,
        }
        results[index] = Some(Ok(result));
    }
    for (index, item) in waiting {
        results[index] = Some(Err(item));
    }
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_item_delays_nobody() {
        let (_handle, stop) = Stop::new();
        let begun = Instant::now();
        let seconds = vec![100, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10];
        let results = run(
            seconds,
            2,
            &stop,
            |s| async move {
                sleep(Duration::from_secs(s)).await;
                s
            },
            |_| Flow::Start,
        )
        .await;
        assert_eq!(begun.elapsed().as_secs(), 100);
        assert_eq!(results.len(), 11);
        assert_eq!(results[0], Ok(100));
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_than_the_limit_run_at_a_time() {
        let (_handle, stop) = Stop::new();
        let now = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let work = |_| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_secs(1)).await;
                now.fetch_sub(1, Ordering::SeqCst);
            }
        };
        run((0..100).collect(), 7, &stop, work, |()| Flow::Start).await;
        assert_eq!(most.load(Ordering::SeqCst), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_lets_the_running_ones_end_and_returns_the_rest() {
        let (_handle, stop) = Stop::new();
        let work = |s: u64| async move {
            sleep(Duration::from_secs(s)).await;
            s
        };
        let judge = |result: &u64| if *result == 1 { Flow::Hold } else { Flow::Start };
        assert_eq!(run(vec![1, 50, 3, 4], 2, &stop, work, judge).await, vec![Ok(1), Ok(50), Err(3), Err(4)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_starts_nothing_new() {
        let (handle, stop) = Stop::new();
        handle.request();
        assert_eq!(run(vec![1, 2], 2, &stop, |n: i32| async move { n }, |_| Flow::Start).await, vec![Err(1), Err(2)]);
    }
}
