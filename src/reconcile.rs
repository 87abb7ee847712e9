//! One look at a credential: what is known of it without asking, the decision of [`plan`], and the pass that carries it
//! out.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use kube::{
    Resource, ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};
use tracing::{Instrument, Span};

use crate::{
    api::IntegrationCredential,
    asked::Asked,
    cache::{LAG, Memory, Written, is_stale},
    clock::Moment,
    context::Context,
    finalizer,
    lock::observer::{GateSight, STUCK_AFTER},
    pass::Pass,
    plan::{Decision, Seen, is_asked_differently, is_urgent, known_generation, plan},
    provider::Found,
    queue::{Kind, Turn},
    telemetry::span::{self, Came},
};

/// When one that waits for its turn is looked at again: it may have become urgent.
const MEANWHILE: Duration = Duration::from_secs(10);

type MyTurn = Turn<ObjectRef<IntegrationCredential>>;

/// A panic in one reconcile must end neither the controller nor anybody else's exchange.
pub async fn guarded(
    credential: Arc<IntegrationCredential>,
    context: Arc<Context>,
) -> Result<Action, Infallible> {
    let span = span::reconcile(&credential);
    let metrics = Arc::clone(&context.tools.metrics);
    let began = Moment::now();
    let pass = Box::pin(reconcile(credential, context)).instrument(span.clone());
    let looked = AssertUnwindSafe(pass).catch_unwind().await;
    metrics.looked(Moment::now().elapsed(began));
    match looked {
        Ok(action) => Ok(action),
        Err(_) => {
            span.in_scope(|| {
                tracing::error!(reason = "Panic", "a reconcile panicked; trying again");
            });
            span::failed(&span, "transient", "Panic");
            Ok(Action::requeue(Duration::from_secs(30)))
        }
    }
}

/// Nothing: what goes wrong is told and scheduled by the reconcile itself.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that kube asks for"
)]
pub fn error_policy(_: Arc<IntegrationCredential>, error: &Infallible, _: Arc<Context>) -> Action {
    match *error {}
}

/// A credential that is deleted.
async fn end(
    credential: Arc<IntegrationCredential>,
    context: Arc<Context>,
    called: Option<MyTurn>,
) -> Action {
    let key = ObjectRef::from_obj(&*credential);
    if !finalizer::is_on(credential.meta()) {
        // Garbage collection takes what belongs to it.
        context.queue.leave(&key);
        context.forget(&credential);
        return Action::await_change();
    }
    let Some(under_way) = context.begin(&credential) else {
        return context.hurry(&credential);
    };
    let Some(_turn) = called.or_else(|| context.queue.take(&key, Kind::Urgent)) else {
        return Action::requeue(MEANWHILE);
    };
    let worker = Arc::clone(&context);
    let end = async move {
        let _under_way = under_way;
        Box::pin(worker.end(credential)).await
    };
    context.make(end).await
}

async fn reconcile(mut credential: Arc<IntegrationCredential>, context: Arc<Context>) -> Action {
    context.caches.filled.wait().await;
    let key = ObjectRef::from_obj(&*credential);
    let called = context.queue.called(&key);
    if credential.meta().deletion_timestamp.is_some() {
        return end(credential, context, called).await;
    }
    let Some(under_way) = context.begin(&credential) else {
        context.tell_running(&credential);
        Box::pin(context.follow_policy_meanwhile(&credential)).await;
        return Action::requeue(LAG);
    };
    let mut memory = context.recall(&credential);
    let cached = credential.resource_version();
    if is_stale(cached.as_deref(), memory.status_version.as_deref()) {
        // The event with our own write is on its way. A watch that hangs must not stop refreshes.
        if !memory.status_is_late() {
            return Action::requeue(LAG);
        }
        match context.current(&credential).await {
            Ok(Some(current)) => credential = current,
            Ok(None) | Err(_) => return Action::requeue(LAG),
        }
    }
    credential = Box::pin(context.known(credential, &mut memory)).await;
    if let Some(change) = context.finalizer_change(&credential)
        && let Some(action) = Box::pin(context.follow_policy(&credential, change, &memory)).await
    {
        return action;
    }
    if credential.copied().is_some() {
        // Before the first reading by this process, an earlier one has been.
        memory.checked.get_or_insert_with(Moment::now);
    }
    context.caches.notice(&credential, &mut memory);
    let found = context.caches.provider(&credential);
    let inputs = context.caches.inputs(&credential, found.as_ref());
    let mut asked = context.asked(&credential);
    let gate = context.gate(&credential);
    let (decision, kind, dead, target, differently) = context.caches.with_facts(
        &credential,
        &memory,
        &inputs,
        found.as_ref(),
        (&asked, gate),
        |facts| {
            let differently = is_asked_differently(&credential, facts);
            let decision = plan(&credential, facts);
            let kind = if is_urgent(&credential, facts, decision) {
                Kind::Urgent
            } else {
                Kind::Due
            };
            (
                decision,
                kind,
                facts.reported_dead,
                facts.target,
                differently,
            )
        },
    );
    if dead {
        memory.dead_tried = Some(known_generation(credential.status.as_ref()));
    }
    if asked.request.is_some() && !credential.spec.suspend {
        memory.request_tried.clone_from(&asked.request);
    }
    asked.only_open = decision == Decision::Open;
    asked.differently = differently;
    tell(&context, decision);
    let idle = match decision {
        Decision::Wait(_) => true,
        Decision::CheckSeed => match context.has_new_seed(&credential, &mut memory).await {
            Ok(is_new) => !is_new,
            Err(pause) => return Action::requeue(pause),
        },
        Decision::Refresh | Decision::Repair | Decision::Open => false,
    };
    if idle {
        context.queue.leave(&key);
        memory.settle(&credential, inputs, cached.as_deref());
        return idle_until(&credential, &context, memory, gate, decision).await;
    }
    let Some(_turn) = called.or_else(|| context.queue.take(&key, kind)) else {
        return Action::requeue(MEANWHILE);
    };
    let worker = Arc::clone(&context);
    let work = async move {
        let _under_way = under_way;
        let seen = (gate, target);
        let passed = pass(&worker, &credential, decision, found, asked, seen);
        match Box::pin(passed).await {
            Ok(pass) => worker.conclude(pass, memory, inputs).await,
            Err(pause) => busy(pause),
        }
    };
    context.make(work).await
}

/// Says what was decided.
fn tell(context: &Context, decision: Decision) {
    tracing::debug!(decision = decision.word(), "planned");
    span::decided(decision);
    context.tools.metrics.decided(decision);
}

/// It is not its turn, or somebody else is at it.
fn busy(pause: Duration) -> Action {
    span::came_to(&Span::current(), Came::Nothing("busy"));
    Action::requeue(pause)
}

/// There is nothing to do: when to look again.
async fn idle_until(
    credential: &Arc<IntegrationCredential>,
    context: &Context,
    memory: Memory,
    gate: GateSight,
    decision: Decision,
) -> Action {
    let late = memory.target.as_ref().is_some_and(Written::may_be_late);
    let due = match decision {
        Decision::Wait(due) => due,
        _ => None,
    };
    let unsaid = memory.unsaid.as_ref().map(|unsaid| unsaid.rest(due));
    context.remember(credential, memory);
    if late {
        return Action::requeue(LAG);
    }
    context.answer_wants(credential, false).await;
    let action = Box::pin(context.idle(credential)).await;
    if gate == GateSight::Closed {
        // Its writer opens it, or is dead.
        return Action::requeue(STUCK_AFTER);
    }
    unsaid.map_or(action, Action::requeue)
}

/// Does what was decided.
///
/// # Errors
/// How long to wait, where it is not its turn, or somebody else is at it.
async fn pass(
    worker: &Context,
    credential: &Arc<IntegrationCredential>,
    decision: Decision,
    found: Option<Found>,
    asked: Asked,
    (gate, target): (GateSight, Seen),
) -> Result<Pass, Duration> {
    if decision == Decision::Repair
        && let Some(pass) = worker.repair(credential, found.as_ref()).await
    {
        return Ok(pass);
    }
    match Box::pin(worker.refresh(credential, found.clone(), asked)).await {
        Ok(pass) => Ok(pass),
        Err(pause) => {
            let meanwhile = worker.meanwhile(credential, found, gate, target);
            Box::pin(meanwhile).await.ok_or(pause)
        }
    }
}
