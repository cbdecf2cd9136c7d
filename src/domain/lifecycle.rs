//! A target's life, as one pure function.

use serde::{Deserialize, Serialize};

/// Where a target is in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing was done yet.
    Pending,
    /// Its account is entered and its change set created.
    Planning,
    /// Its change set is ready and waits.
    Planned,
    /// Its change set is being executed, or its stack deleted.
    Executing,
    /// Its checks are running.
    Verifying,
    /// It has its outcome.
    Finished,
}

/// What happens to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Planning begins.
    Plan,
    /// A change set is ready.
    Ready,
    /// The change set is executed, or the stack's deletion begins.
    Execute,
    /// The stack is deployed and is looked at.
    Verify,
    /// It has failed, and is tried once more at the end.
    Again,
    /// The outcome is known.
    Finish,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Planning, Self::Planned, Self::Executing, Self::Verifying, Self::Finished];
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 6] = [Self::Plan, Self::Ready, Self::Execute, Self::Verify, Self::Again, Self::Finish];
}

/// A step that makes no sense in a state: a bug in the engine, never a property of the tenant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a target that is {state:?} cannot take the step {step:?}")]
pub struct IllegalStep {
    state: State,
    step: Step,
}

/// Returns the state after a step. A target can finish from anywhere but the end; only a planned target is
/// executed, and only an executed one is verified. A run that has its plan already, such as an apply or a
/// confirmed deletion, begins at `Planned`.
pub fn next(state: State, step: Step) -> Result<State, IllegalStep> {
    match (state, step) {
        (State::Pending, Step::Plan) => Ok(State::Planning),
        (State::Planning, Step::Ready) | (State::Executing | State::Verifying, Step::Again) => Ok(State::Planned),
        (State::Planned, Step::Execute) => Ok(State::Executing),
        (State::Executing, Step::Verify) => Ok(State::Verifying),
        (State::Pending | State::Planning | State::Planned | State::Executing | State::Verifying, Step::Finish) => {
            Ok(State::Finished)
        }
        (state, step) => Err(IllegalStep { state, step }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole function as a grid: a row a state, a column a step, `.` for a step that is refused.
    #[test]
    fn the_grid_of_all_states_and_steps() {
        let mut grid = String::new();
        for state in State::ALL {
            let cells = Step::ALL.map(|step| match next(state, step) {
                Ok(after) => format!("{after:?}"),
                Err(_) => ".".to_owned(),
            });
            grid.push_str(
                format!(
                    "{:<10}{:<10}{:<9}{:<11}{:<11}{:<9}{:<9}",
                    format!("{state:?}"),
                    cells[0],
                    cells[1],
                    cells[2],
                    cells[3],
                    cells[4],
                    cells[5]
                )
                .trim_end(),
            );
            grid.push('\n');
        }
        let expected = "\
Pending   Planning  .        .          .          .        Finished
Planning  .         Planned  .          .          .        Finished
Planned   .         .        Executing  .          .        Finished
Executing .         .        .          Verifying  Planned  Finished
Verifying .         .        .          .          Planned  Finished
Finished  .         .        .          .          .        .
";
        assert_eq!(grid, expected);
    }
}
