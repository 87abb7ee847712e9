//! What is tried on the node.

mod consumers;
mod disturbed;
mod installed;

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
};

use crate::place;

/// A test.
pub type Test = fn() -> Pin<Box<dyn Future<Output = ()>>>;

/// Those that there are, in the order in which they run: the operator is installed by the first that needs it.
pub const ALL: [(&str, Test); 9] = [
    (
        "installed::by_helm_it_is_ready_and_small_and_refreshes",
        || Box::pin(installed::by_helm_it_is_ready_and_small_and_refreshes()),
    ),
    (
        "consumers::who_mounts_the_secret_has_no_refused_call_where_old_tokens_survive",
        || {
            Box::pin(
                consumers::who_mounts_the_secret_has_no_refused_call_where_old_tokens_survive(),
            )
        },
    ),
    (
        "consumers::who_mounts_the_secret_where_old_tokens_die_is_told_so_and_refused_at_a_refresh",
        || {
            Box::pin(consumers::who_mounts_the_secret_where_old_tokens_die_is_told_so_and_refused_at_a_refresh())
        },
    ),
    (
        "consumers::under_a_lock_no_call_is_refused_where_old_tokens_die",
        || Box::pin(consumers::under_a_lock_no_call_is_refused_where_old_tokens_die()),
    ),
    (
        "consumers::a_sidecar_has_the_file_sooner_than_the_kubelet",
        || Box::pin(consumers::a_sidecar_has_the_file_sooner_than_the_kubelet()),
    ),
    (
        "disturbed::a_pod_that_is_deleted_or_evicted_loses_nothing",
        || Box::pin(disturbed::a_pod_that_is_deleted_or_evicted_loses_nothing()),
    ),
    (
        "disturbed::a_node_whose_programs_are_killed_loses_nothing",
        || Box::pin(disturbed::a_node_whose_programs_are_killed_loses_nothing()),
    ),
    (
        "disturbed::two_replicas_that_are_rolled_lose_nothing",
        || Box::pin(disturbed::two_replicas_that_are_rolled_lose_nothing()),
    ),
    (
        "installed::upgraded_rolled_back_removed_and_installed_again_it_loses_nothing",
        || Box::pin(installed::upgraded_rolled_back_removed_and_installed_again_it_loses_nothing()),
    ),
];

/// Runs one, in a runtime of its own. What a failure looked like is gone with the node, so that it is printed.
pub fn run(test: Test) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test())));
    if let Err(panic) = ended {
        place::show();
        resume_unwind(panic);
    }
}
