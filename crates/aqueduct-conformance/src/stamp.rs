//! The macros that make tests of the cases.

/// Makes a `#[test]` of every case for each [`Transport`](crate::Transport): those of
/// [`in_one_process!`](crate::in_one_process) and of [`between_processes!`](crate::between_processes).
#[macro_export]
macro_rules! conformance {
    ($($name:ident => $transport:expr;)+) => { $(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::__in_one_process!($transport);
            $crate::__between_processes!($transport);
        }
    )+ };
}

/// Makes a `#[test]` of every case that needs one process for each [`Transport`](crate::Transport).
#[macro_export]
macro_rules! in_one_process {
    ($($name:ident => $transport:expr;)+) => { $(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::__in_one_process!($transport);
        }
    )+ };
}

/// Makes a `#[test]` of the cases for a [`Transport`](crate::Transport) that may lose messages.
///
/// These send no more at a time than any buffer holds. The others fill buffers, or check that
/// nothing is lost.
#[macro_export]
macro_rules! lossy {
    ($($name:ident => $transport:expr;)+) => { $(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::__lossy!($transport);
        }
    )+ };
}

/// Makes a `#[test]` of every case with a process at the other end for each [`Link`](crate::Link).
#[macro_export]
macro_rules! between_processes {
    ($($name:ident => $link:expr;)+) => { $(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $crate::__between_processes!($link);
        }
    )+ };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __in_one_process {
    ($transport:expr) => {
        $crate::__lossy!($transport);

        #[test]
        fn messages_keep_order_and_boundaries_both_ways_at_once() {
            $crate::run($crate::cases::order(&$transport));
        }

        #[test]
        fn a_full_buffer_makes_the_sender_wait_and_a_reader_wakes_it() {
            $crate::run($crate::cases::full(&$transport));
        }

        #[test]
        fn dropping_at_every_await_point_loses_and_doubles_nothing() {
            $crate::run($crate::cases::await_points(&$transport));
        }

        #[test]
        fn both_halves_of_both_ends_run_in_tasks_of_their_own() {
            $crate::run($crate::cases::tasks(&$transport));
        }

        #[test]
        fn a_timer_fires_beside_a_flood() {
            $crate::run($crate::cases::timer(&$transport));
        }

        #[test]
        fn a_wait_that_another_task_takes_over_wakes_that_task() {
            $crate::run($crate::cases::handed_over(&$transport));
        }

        #[test]
        fn idle_ends_use_no_cpu() {
            $crate::cases::idle(&$transport, module_path!(), "idle_ends_use_no_cpu");
        }

        #[test]
        fn nothing_stays_open() {
            $crate::cases::nothing_stays(&$transport, module_path!(), "nothing_stays_open");
        }

        #[test]
        fn signals_that_interrupt_system_calls_change_nothing() {
            $crate::cases::signals(
                &$transport,
                module_path!(),
                "signals_that_interrupt_system_calls_change_nothing",
            );
        }
    };
}

/// What needs no message to arrive.
#[doc(hidden)]
#[macro_export]
macro_rules! __lossy {
    ($transport:expr) => {
        #[test]
        fn an_empty_message_is_one_or_is_refused() {
            $crate::run($crate::cases::empty(&$transport));
        }

        /// The error names both numbers.
        #[test]
        fn a_message_at_the_limit_passes_and_one_byte_more_is_refused() {
            $crate::run($crate::cases::largest(&$transport));
        }

        #[test]
        fn closing_ends_the_stream_after_everything_that_was_sent() {
            $crate::run($crate::cases::end(&$transport));
        }

        /// The other direction goes on.
        #[test]
        fn dropping_the_sending_half_keeps_what_was_flushed() {
            $crate::run($crate::cases::drop_sender(&$transport));
        }

        #[test]
        fn dropping_the_receiving_half_leaves_the_other_way() {
            $crate::run($crate::cases::drop_receiver(&$transport));
        }

        #[test]
        fn dropping_an_end_is_seen_at_the_other() {
            $crate::run($crate::cases::drop_end(&$transport));
        }

        #[test]
        fn dropping_the_runtime_ends_every_wait() {
            $crate::run($crate::cases::runtime_dropped(&$transport));
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __between_processes {
    ($link:expr) => {
        #[test]
        fn far_end() {
            $crate::far_end(&$link, module_path!());
        }

        #[test]
        fn messages_of_a_process_keep_their_boundaries_and_their_order() {
            $crate::run($crate::processes::order(&$link, module_path!()));
        }

        #[test]
        fn the_stream_ends_after_all_messages() {
            $crate::run($crate::processes::end(&$link, module_path!()));
        }

        #[test]
        fn a_peer_that_ends_first_is_seen_and_sending_fails() {
            $crate::run($crate::processes::peer_ends(&$link, module_path!()));
        }

        #[test]
        fn a_peer_killed_at_any_step_leaves_whole_messages_in_order() {
            $crate::run($crate::processes::killed(&$link, module_path!()));
        }

        #[test]
        fn a_stopped_peer_makes_the_sender_wait_and_loses_nothing() {
            $crate::run($crate::processes::full(&$link, module_path!()));
        }

        #[test]
        fn a_peer_killed_behind_a_full_buffer_frees_the_sender() {
            $crate::run($crate::processes::killed_full(&$link, module_path!()));
        }

        #[test]
        fn dropped_futures_lose_nothing_and_double_nothing() {
            $crate::run($crate::processes::cancel(&$link, module_path!()));
        }

        /// The larger one is refused at either end.
        #[test]
        fn a_message_at_the_limit_passes_and_a_larger_is_refused() {
            $crate::run($crate::processes::largest(&$link, module_path!()));
        }

        #[test]
        fn a_timer_fires_beside_a_flood_between_processes() {
            $crate::run($crate::processes::timer(&$link, module_path!()));
        }

        #[test]
        fn idle_processes_use_no_cpu() {
            $crate::processes::idle(&$link, module_path!(), "idle_processes_use_no_cpu");
        }
    };
}
