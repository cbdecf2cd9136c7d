//! What happens as spans of OpenTelemetry: one for the run, one for each phase and stage, one for each target in it, and one
//! for each of the target's steps.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/>

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::Reporter;
use super::text::{clean, shorten};
use crate::domain::lifecycle::State;
use crate::domain::{Masks, Outcome, TargetId};
use crate::event::{Event, Timed};

/// Spans in one request.
const BATCH: usize = 2000;
/// How long a reason may be in a span.
const REASON: usize = 1000;

/// Gathers spans from what is told; cheap to clone, and all clones gather into one.
#[derive(Clone)]
pub struct Traces(Arc<Mutex<Gathered>>);

struct Gathered {
    trace: Vec<u8>,
    masks: Masks,
    root: Span,
    phase: Option<Span>,
    targets: HashMap<TargetId, (Span, Option<Span>)>,
    ended: Vec<Span>,
    next: u64,
}

impl Traces {
    /// Begins a trace of a command. `parent` is what a `traceparent` names, where the run is a part of another trace.
    /// Source: <https://www.w3.org/TR/trace-context/#traceparent-header>
    pub fn new(command: &str, run: &str, parent: Option<&str>, masks: Masks, now: Timestamp) -> Self {
        let parts: Vec<Vec<u8>> = parent
            .into_iter()
            .flat_map(|text| text.split('-'))
            .map(|part| hex::decode(part).unwrap_or_default())
            .collect();
        let (trace, parent) = match parts.as_slice() {
            [_, trace, span, _] if trace.len() == 16 && span.len() == 8 => (trace.clone(), span.clone()),
            _ => (hex::decode(run).unwrap_or_else(|_| vec![1; 16]), Vec::new()),
        };
        let mut gathered = Gathered {
            trace,
            masks,
            root: Span::default(),
            phase: None,
            targets: HashMap::new(),
            ended: Vec::new(),
            next: fastrand::u64(1..),
        };
        gathered.root = gathered.begin(format!("tenantry {command}"), parent, now);
        Self(Arc::new(Mutex::new(gathered)))
    }

    /// Ends the trace, and returns it as OTLP's JSON, in as many requests as it takes.
    ///
    /// # Panics
    ///
    /// Never: spans are plain JSON.
    pub fn end(&self, service: &str, code: u8, now: Timestamp) -> Vec<String> {
        let mut gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let targets = std::mem::take(&mut gathered.targets);
        let open = targets.into_values().flat_map(|(span, step)| step.into_iter().chain([span]));
        let phase = gathered.phase.take();
        for span in open.chain(phase).collect::<Vec<_>>() {
            gathered.finish(span, now);
        }
        let mut root = std::mem::take(&mut gathered.root);
        root.attributes.push(attribute("tenantry.exit_code", &code.to_string()));
        if !matches!(code, 0 | 3 | 5) {
            root.status = Some(Status { code: StatusCode::Error.into(), message: String::new() });
        }
        gathered.finish(root, now);
        let request = |spans: &[Span]| {
            let scope = InstrumentationScope {
                name: "tenantry".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                ..InstrumentationScope::default()
            };
            let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.to_vec(), schema_url: String::new() }];
            let resource = Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() };
            let resource_spans = ResourceSpans { resource: Some(resource), scope_spans, schema_url: String::new() };
            let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
            serde_json::to_string(&request).expect("spans are plain JSON")
        };
        std::mem::take(&mut gathered.ended).chunks(BATCH).map(request).collect()
    }
}

impl Gathered {
    fn begin(&mut self, name: String, parent: Vec<u8>, at: Timestamp) -> Span {
        self.next = self.next.wrapping_add(1).max(1);
        Span {
            trace_id: self.trace.clone(),
            span_id: self.next.to_be_bytes().to_vec(),
            parent_span_id: parent,
            name,
            kind: 1,
            start_time_unix_nano: nanoseconds(at),
            ..Span::default()
        }
    }

    fn finish(&mut self, mut span: Span, at: Timestamp) {
        span.end_time_unix_nano = nanoseconds(at).max(span.start_time_unix_nano);
        self.ended.push(span);
    }

    fn hear(&mut self, Timed { time, event }: &Timed) {
        match event {
            Event::PhaseStarted { phase, stage, targets } => {
                if let Some(before) = self.phase.take() {
                    self.finish(before, *time);
                }
                let name = format!("{phase:?} {stage}").to_lowercase();
                let mut span = self.begin(name, self.root.span_id.clone(), *time);
                span.attributes.push(attribute("tenantry.stage", stage));
                span.attributes.push(attribute("tenantry.targets", &targets.to_string()));
                self.phase = Some(span);
            }
            Event::PhaseFinished { tally, .. } => {
                if let Some(mut span) = self.phase.take() {
                    span.attributes.push(attribute("tenantry.outcomes", &tally.to_string()));
                    self.finish(span, *time);
                }
            }
            Event::RolloutStarted { rollout, plan, .. } => {
                self.root.attributes.push(attribute("tenantry.rollout", rollout));
                self.root.attributes.push(attribute("tenantry.plan", &plan.to_string()));
            }
            Event::Moved { target, to, .. } => self.step(target, *to, *time),
            Event::Finished { target, outcome } => self.end_of(target, outcome, *time),
            _ => {}
        }
    }

    fn step(&mut self, target: &TargetId, to: State, at: Timestamp) {
        let (span, step) = self.targets.remove(target).unwrap_or_else(|| {
            let parent = self.phase.as_ref().unwrap_or(&self.root).span_id.clone();
            let mut span = self.begin(target.to_string(), parent, at);
            span.attributes.push(attribute("tenantry.tenant", &target.tenant));
            span.attributes.push(attribute("cloud.region", target.region.as_str()));
            (span, None)
        });
        if let Some(step) = step {
            self.finish(step, at);
        }
        let next = match to {
            // It waits; that is no step.
            State::Pending | State::Planned | State::Finished => None,
            State::Planning | State::Executing | State::Verifying => {
                Some(self.begin(format!("{to:?}").to_lowercase(), span.span_id.clone(), at))
            }
        };
        if to == State::Planned {
            // The target's part of this phase is over.
            self.finish(span, at);
        } else {
            self.targets.insert(target.clone(), (span, next));
        }
    }

    fn end_of(&mut self, target: &TargetId, outcome: &Outcome, at: Timestamp) {
        if !self.targets.contains_key(target) {
            self.step(target, State::Finished, at);
        }
        let Some((mut span, step)) = self.targets.remove(target) else { return };
        if let Some(step) = step {
            self.finish(step, at);
        }
        span.attributes.push(attribute("tenantry.outcome", outcome.name()));
        if let Some(failure) = outcome.failure() {
            let message = shorten(&clean(&self.masks.apply(&failure.to_string())), REASON);
            span.status = Some(Status { code: StatusCode::Error.into(), message });
        }
        self.finish(span, at);
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}

/// Shows what happens by one reporter, and gathers it as spans.
pub struct Traced {
    /// The reporter.
    pub reporter: Box<dyn Reporter>,
    /// Where spans are gathered.
    pub traces: Traces,
}

impl Reporter for Traced {
    fn event(&mut self, event: &Timed) -> io::Result<()> {
        self.traces.0.lock().unwrap_or_else(PoisonError::into_inner).hear(event);
        self.reporter.event(event)
    }

    fn finish(&mut self) {
        self.reporter.finish();
    }
}
