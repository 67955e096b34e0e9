//! Golden scripts of the Raft core: stories of small clusters whose every line must come out the same.
//!
//! README.md beside this file says how to read, run and write them.

mod args;
mod cluster;
mod commands;
mod diff;
mod invariants;
mod network;
mod node;
mod render;
mod script;
mod violation;
mod walk;

/// Makes each script a test of its own, named like its file, and lists their names.
macro_rules! scripts {
    ($($theme:ident { $($name:ident)* })*) => {
        $(mod $theme {
            $(#[test] fn $name() { crate::script::check(concat!(stringify!($theme), "/", stringify!($name))); })*
        })*

        /// All scripts that are run.
        const SCRIPTS: &[&str] = &[$($(concat!(stringify!($theme), "/", stringify!($name)),)*)*];
    };
}

scripts! {
    commit {
        figure_8
        figure_8_e
        heartbeat_verified_only
        noop_commits_earlier
        single_node
        two_nodes
        verified_only
    }
    configuration {
        joint_check_quorum
        joint_commit
        joint_election
        learner_passive
        learners_not_counted
        seven_voters
    }
    election {
        basic
        bridge
        chain
        check_quorum
        duplicate_vote_request
        higher_term_by_refused_pre_vote
        leader_disk_stalls
        late_pre_votes
        late_votes
        log_comparison
        own_vote_durable
        pre_candidate_forgets_leader
        pre_vote_sticky
        rejoin_after_isolation
        seven_at_once
        split_vote
        stale_leader_learns
        stale_log_refused
        term_jump
        vote_durable_before_granted
        vote_ends_pre_campaign
        vote_kept_in_term
        vote_request_ends_old_term
    }
    flow {
        append_bytes
        apply_bytes
        fetch
        fetch_fails
        fetch_while_probing
        idle_followers_told
        oversized_proposal
        uncommitted_bound
        unreachable
        window
        window_lost
    }
    hostile {
        commit_beyond_log
        committed_is_final
        disruptive_votes
        malformed_entries
        malformed_votes
        pre_vote_reply_as_vote
        second_leader
        timeout_now
        unknown_sender
        unsolicited_responses
        wrong_address
    }
    reads {
        basic
        before_own_commit
        deposed
        follower
        follower_asks_again
        follower_of_deposed
        follower_of_five
        follower_restarts
        late_round_of_old_term
        lost_round
        partitioned_leader
        single_node
        stale_round
    }
    replication {
        basic
        batch
        coalesced
        conflict_divergent
        conflict_long
        conflict_short
        deposed_leader
        duplicates
        figure_7
        follower_disk_slow
        leader_disk_slow
        lost_append
        lost_response
        many_inputs_at_once
        persistence_aba
        pipeline
        reordering
        stale_append
    }
    restart {
        candidate
        commit_hint
        follower_lost_tail
        log
        lost_tail
        old_acknowledgement
        torn_batch
        vote
    }
    snapshot {
        crash_before_reset
        divergent_tail
        offered
        stale_offer
    }
    transfer {
        basic
        late_timeout_now
        reads_meanwhile
        refused
        target_behind
        target_crashes
        timeout
    }
}

/// A script that nobody runs proves nothing.
#[test]
fn every_script_is_run() {
    let mut listed = SCRIPTS.to_vec();
    listed.sort_unstable();
    assert_eq!(listed, script::names_on_disk(), "the list in main.rs (left) and the folder scripts (right) differ");
}
