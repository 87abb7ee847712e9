//! Which test shows which rule of reading answers, of sorting failures, and which failure of other programs it is that
//! cannot happen here. Each row: the rule | the file | the test. This test makes sure that all of them are there.

use std::fs;

/// Reading a token response.
const ANSWERS: &str = "
the lifetime counts from when the request was sent | src/plan/tests.rs | a_token_is_refreshed_a_margin_before_it_expires
at most 64 KiB are read | src/oauth/endpoint/tests/connections.rs | a_body_longer_than_64_kib_is_no_answer
no secret is anywhere but in its Secrets | tests/integration/provider/canary.rs | secrets_are_nowhere_but_in_their_secrets_whatever_happens
nothing of a body is logged | src/oauth/endpoint/tests/quiet.rs | nothing_secret_is_logged_at_any_level
redirects are not followed | src/oauth/endpoint/tests/connections.rs | a_redirect_is_an_answer_and_is_not_followed
JSON is asked for | src/oauth/endpoint/tests/connections.rs | a_request_says_what_it_is_and_who_sends_it
the content says what it is, not its type | src/oauth/response.rs | a_form_encoded_answer_is_read_too
success and error count before tokens, at any status | src/oauth/response.rs | an_error_counts_before_the_tokens_beside_it
success and error are where the description says | src/oauth/response.rs | an_answer_of_a_provider_with_ways_of_its_own
any 2xx with an access token is a success | tests/integration/bad_input/lifetimes.rs | lifetimes_are_read_leniently_and_tokens_without_one_are_kept
lifetimes are numbers or wholly numeric texts | src/oauth/response.rs | lifetimes_as_they_come
the expiry counts before the lifetime | src/oauth/response/lifetime.rs | when_it_expires_counts_before_how_long_it_lives
the token's own expiry is a hint | src/oauth/response/lifetime.rs | a_jwt_tells_its_lifetime_where_the_answer_does_not
the description's lifetime comes last | src/plan/tests.rs | the_providers_default_stands_in_for_a_lifetime_that_is_not_stated
a margin longer than the token does not loop | tests/integration/lifecycle.rs | a_margin_longer_than_the_token_lives_does_not_loop
credentials made together are refreshed apart | src/plan/tests.rs | credentials_made_together_are_refreshed_apart
an absent, null or blank refresh token keeps the old one | src/oauth/response.rs | a_null_or_blank_refresh_token_keeps_the_old_one
a new refresh token is never lost | src/oauth/response.rs | a_new_refresh_token_is_kept_whatever_is_said_beside_it
fixed lifetimes of refresh tokens do not extend | src/plan/tests.rs | a_refresh_token_expires_by_what_is_stated_and_never_outlives_its_authorization
absent scopes keep the old ones | src/oauth/response.rs | scopes_as_they_come
narrower scopes are stored, then told | src/status/tests.rs | narrowed_scopes_are_told_once_and_leave_the_token_ready
a missing token type is Bearer | src/oauth/response.rs | what_is_missing_has_a_meaning
a refused answer overwrites nothing | tests/integration/seed.rs | a_refused_refresh_token_leaves_the_old_grant_working
nothing happens between the answer and its storing | tests/integration/sweep.rs | an_operator_killed_after_any_of_its_calls_loses_nothing
";

/// Sorting failures.
const FAILURES: &str = "
one total function sorts every answer | src/oauth/error.rs | the_whole_table
whatever is answered, people are told what to do | src/oauth/error.rs | whatever_a_provider_answers_people_are_told_what_to_do
every reason is in the documentation | src/failure.rs | every_reason_is_explained_in_the_documentation
transient: backoff, and the token is served on | tests/integration/bad_input/answers.rs | a_provider_that_is_down_costs_nothing_but_time
ambiguous: told, and presented again by the rule | tests/integration/bad_input/answers.rs | after_an_unknown_outcome_a_refresh_token_waits_until_nothing_can_be_lost
ambiguous: each event, for each species of provider | tests/integration/species.rs | no_event_in_an_exchange_costs_more_than_the_provider_makes_inevitable
ambiguous: within a grace period the same again | tests/integration/species/grace.rs | within_a_grace_period_the_same_refresh_token_is_presented_after_1_2_and_4_seconds
ambiguous: a code is not presented twice | src/plan/tests.rs | a_code_that_may_have_been_redeemed_is_not_presented_again
ambiguous: the rule | src/plan/tests.rs | the_rule_for_an_unknown_outcome
rate limited: the pause is kept | tests/integration/bad_input/answers.rs | a_provider_that_asks_for_a_pause_gets_it
rate limited: Retry-After in both forms | src/oauth/endpoint/answer.rs | retry_after_in_both_forms
needs reauthorization: told with the command | tests/integration/bad_input/answers.rs | a_revoked_authorization_is_told_with_the_command_that_mends_it
needs reauthorization: never for a client that acts for itself | src/oauth/error.rs | whatever_a_provider_answers_people_are_told_what_to_do
misconfiguration: the next client secret is tried | tests/integration/bad_input/answers.rs | a_refused_client_is_mended_by_its_secret_or_by_a_second_one
misconfiguration: a certificate that is not trusted | src/oauth/endpoint/tests/trust.rs | a_certificate_of_an_unknown_authority_is_trusted_with_its_bundle_only
a pause for each client and host, and nobody stampedes after it | tests/integration/traffic.rs | after_a_429_nobody_is_sent_before_its_pause_is_over_and_then_one_by_one
a budget for each client and host | tests/integration/traffic.rs | a_limit_that_the_provider_object_states_is_kept
a breaker for each client and host | tests/integration/traffic.rs | a_dead_provider_holds_up_nobody_else_and_is_asked_by_few
vendors' own codes | tests/catalog.rs | every_provider_is_understood_in_what_it_answers
";

/// Failures seen in the wild.
const WILD: &str = "
the rotated token lost in a race for storing it | src/secret/grant.rs | the_merge_never_drops_a_rotated_token_and_never_resurrects_an_old_one
what waits for storing dropped | tests/integration/crash.rs | sigterm_during_an_exchange_stores_the_token_that_comes_back
two instances redeem one refresh token | tests/integration/concurrency.rs | two_operators_redeem_nothing_twice_over_thirty_refreshes
two credentials redeem one refresh token | src/shared.rs | a_refresh_token_belongs_to_the_one_that_presented_it
the loser declares death without reading again | tests/integration/concurrency.rs | two_operators_redeem_nothing_twice_over_thirty_refreshes
the answer lost on the network | tests/integration/sweep.rs | an_answer_that_gets_lost_costs_nothing_at_any_call
429 masking a terminal answer | src/oauth/error.rs | the_whole_table
a token expiring inside a retry loop | src/status/tests.rs | a_token_that_expires_between_attempts_is_told
a lifetime as text, and none | src/oauth/response.rs | lifetimes_as_they_come
200 with an error body | src/oauth/response.rs | an_error_counts_before_the_tokens_beside_it
201 as success | tests/integration/bad_input/lifetimes.rs | lifetimes_are_read_leniently_and_tokens_without_one_are_kept
scopes as an array | src/oauth/response.rs | scopes_as_they_come
3600abc read as 3600 | src/oauth/response.rs | lifetimes_as_they_come
a fast timeout that cancels a rotation under way | tests/integration/crash.rs | sigterm_during_an_exchange_stores_the_token_that_comes_back
userinfo failing between the answer and its storing | tests/integration/sweep.rs | an_operator_killed_after_any_of_its_calls_loses_nothing
an empty scope that wipes the scopes | src/oauth/response.rs | scopes_as_they_come
a margin longer than the lifetime | tests/integration/lifecycle.rs | a_margin_longer_than_the_token_lives_does_not_loop
hundreds of refreshes in one second after a restart | src/plan/tests.rs | credentials_made_together_are_refreshed_apart
";

#[test]
fn every_rule_has_its_test() {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut missing = Vec::new();
    for row in [ANSWERS, FAILURES, WILD]
        .iter()
        .flat_map(|t| t.trim().lines())
    {
        let cells: Vec<_> = row.split(" | ").collect();
        let [_, file, test] = cells[..] else {
            panic!("a row with too few cells: {row}");
        };
        let text = fs::read_to_string(format!("{root}/{file}")).unwrap_or_default();
        if !text.contains(&format!("fn {test}(")) {
            missing.push(row);
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
