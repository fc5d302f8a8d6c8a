use super::*;

/// One wait that never succeeds: how often it tries again, and yields, before it sleeps.
fn in_vain(polling: &Polling) -> (u32, u32) {
    wrote();
    // A busy machine may have set it.
    PAUSED.set(None);
    let mut round = Round::default();
    let (mut again, mut yields) = (0, 0);
    loop {
        match polling.next(&mut round) {
            Next::Again => again += 1,
            Next::Yield => yields += 1,
            Next::Sleep => return (again, yields),
        }
    }
}

#[test]
fn a_wait_tries_a_few_times_and_sleeps() {
    let (again, yields) = in_vain(&Polling::new(Duration::ZERO));
    assert!((1..=BURST).contains(&again), "{again}");
    assert_eq!(yields, 0);
}

#[test]
fn a_glance_makes_no_tries_and_does_not_count_as_a_failure() {
    let polling = Polling::new(Duration::from_secs(1));
    for _ in 0..2 {
        let mut round = Round::default();
        assert_eq!(glance(|| polling.next(&mut round)), Next::Sleep);
    }
    assert_eq!(polling.next(&mut Round::default()), Next::Again);
}

#[test]
fn latency_mode_yields_to_other_tasks_until_its_time_is_over() {
    // Long, since on a busy machine the yielded processor returns late.
    let limit = Duration::from_millis(500);
    let began = Instant::now();
    let (again, yields) = in_vain(&Polling::new(limit));
    assert!(began.elapsed() >= limit);
    assert!(yields >= 1, "{yields}");
    assert!(
        again <= BURST * (yields + 1),
        "{again} tries, {yields} yields"
    );
}

#[test]
fn where_it_is_in_vain_it_is_left_out_more_and_more_often() {
    let polling = Polling::new(Duration::ZERO);
    let polled: Vec<bool> = (0..100).map(|_| in_vain(&polling).0 > 0).collect();
    let at: Vec<usize> = (0..100).filter(|i| polled[*i]).collect();
    assert_eq!(at, [0, 3, 8, 17, 34, 51, 68, 85]);
}

#[test]
fn a_long_limit_is_left_out_for_longer() {
    let limit = Duration::from_micros(300);
    let polling = Polling::new(limit);
    let polled = polled(&polling, limit * 2, yields);
    let polled = polled.iter().filter(|at| **at < 400).count();
    // 0, 2, 6, 14, 30, 62, 126, then each 100th.
    assert!((8..=11).contains(&polled), "{polled}");
}

/// How a wait begins for events that only the runtime can find out: whether it is polled.
fn yields(polling: &Polling, round: &mut Round) -> bool {
    polling.yields(round)
}

/// How others begin.
fn tries(polling: &Polling, round: &mut Round) -> bool {
    polling.next(round) == Next::Again
}

/// Which of 1,000 waits of that length are polled, without success.
fn polled(
    polling: &Polling,
    took: Duration,
    begins: fn(&Polling, &mut Round) -> bool,
) -> Vec<usize> {
    let is_polled = |_: &usize| {
        PAUSED.set(None);
        let mut round = Round::default();
        let polled = begins(polling, &mut round);
        if polled {
            polling.was_in_vain();
        }
        polling.slept(took);
        polled
    };
    (0..1000).filter(is_polled).collect()
}

#[test]
fn waits_far_longer_than_the_limit_are_hardly_ever_polled() {
    let limit = Duration::from_micros(50);
    for begins in [yields, tries] {
        let far = polled(&Polling::new(limit), Duration::from_millis(2), begins);
        assert_eq!(far, [0, 32, 96, 224, 480, 736, 992]);
    }
}

#[test]
fn shorter_waits_soon_have_it_polled_again() {
    let limit = Duration::from_micros(50);
    let polling = Polling::new(limit);
    polled(&polling, Duration::from_secs(1), yields);
    let near = polled(&polling, Duration::from_micros(200), yields);
    assert!(near[0] <= 16 && near[1] - near[0] == 16, "{near:?}");
    // It would have paid.
    polling.slept(limit);
    PAUSED.set(None);
    assert!(polling.yields(&mut Round::default()));
}

#[test]
fn a_wait_is_polled_once_however_often_its_task_runs_meanwhile() {
    let polling = Polling::new(Duration::from_nanos(1));
    let mut round = Round::default();
    assert!(polling.yields(&mut round));
    thread::sleep(Duration::from_millis(1));
    for _ in 0..100 {
        assert!(!polling.yields(&mut round));
        assert_eq!(polling.next(&mut round), Next::Sleep);
    }
    polling.done(&mut round);
    assert_eq!(polling.vain.load(Ordering::Relaxed), 1);
}

#[test]
fn after_a_late_yield_its_thread_polls_no_more_for_a_while() {
    let (polling, other) = (Polling::new(Duration::ZERO), Polling::new(LATE));
    let mut round = Round {
        began: Instant::now().checked_sub(LATE * 1000),
        yielded: Some(LATE * 2),
        ..Round::default()
    };
    polling.done(&mut round);
    for polling in [&polling, &other] {
        assert_eq!(polling.next(&mut Round::default()), Next::Sleep);
        assert!(!polling.yields(&mut Round::default()));
    }
    assert!(!offer());
    let until = PAUSED.get().expect("it is paused");
    let pause = until.saturating_duration_since(Instant::now());
    // It took 998 times that, and as long as this test since then.
    assert!(pause >= LATE * 500 * PAUSE, "{pause:?}");
    PAUSED.set(Some(Instant::now()));
    assert_eq!(other.next(&mut Round::default()), Next::Again);
    assert!(offer());
}

#[test]
fn a_yield_in_time_pauses_nothing() {
    let polling = Polling::new(Duration::from_secs(60));
    let mut round = Round::default();
    for _ in 0..BURST {
        assert_eq!(polling.next(&mut round), Next::Again);
    }
    polling.done(&mut round);
    assert_eq!(PAUSED.get(), None);
    assert!(!pause_if_late(LATE, LATE));
    assert_eq!(PAUSED.get(), None);
}

#[test]
fn once_it_pays_it_is_done_each_time_again() {
    // Long, so that it pays on a busy machine too.
    let polling = Polling::new(Duration::from_secs(60));
    polling.vain.store(5, Ordering::Relaxed);
    let mut round = Round::default();
    assert_eq!(polling.next(&mut round), Next::Again);
    polling.done(&mut round);
    for _ in 0..10 {
        assert_eq!(polling.next(&mut round), Next::Again);
        polling.done(&mut round);
    }
    assert_eq!(polling.vain.load(Ordering::Relaxed), 0);
}

#[test]
fn an_answer_that_comes_after_too_long_does_not_pay() {
    let polling = Polling::new(Duration::ZERO);
    let mut round = Round::default();
    polling.next(&mut round);
    thread::sleep(WORTH * 2);
    polling.done(&mut round);
    assert_eq!(polling.next(&mut round), Next::Sleep);
}

/// How many tries each of the next bursts has, if all fail.
fn failed(polling: &Polling, bursts: usize) -> Vec<u32> {
    let polled = std::iter::repeat_with(|| in_vain(polling).0).filter(|it| *it > 0);
    polled.take(bursts).collect()
}

/// Long, so that a busy machine cuts no burst short.
fn patient() -> Polling {
    let polling = Polling::new(Duration::ZERO).with_long_bursts();
    polling.with_worth(Duration::from_millis(999))
}

#[test]
fn one_of_many_failed_bursts_is_long() {
    let tries = failed(&patient(), 17);
    let long: Vec<_> = (0..17).filter(|i| tries[*i] == LONG_BURST).collect();
    assert_eq!(long, [7, 15], "{tries:?}");
    assert!(tries.iter().all(|it| [BURST, LONG_BURST].contains(it)));
}

/// Succeeds in this try of a burst.
fn answered(polling: &Polling, in_try: u32) {
    polling.skip.store(0, Ordering::Relaxed);
    wrote();
    let mut round = Round::default();
    (0..in_try).for_each(|_| assert_eq!(polling.next(&mut round), Next::Again));
    polling.done(&mut round);
}

#[test]
fn an_answer_to_a_late_try_makes_bursts_long_while_they_pay() {
    let polling = patient();
    failed(&polling, 7);
    answered(&polling, BURST + 1);
    for _ in 0..100 {
        answered(&polling, 1);
        assert_eq!(failed(&polling, 1), [LONG_BURST]);
    }
    assert_eq!(failed(&polling, 3), [LONG_BURST, LONG_BURST, BURST]);
}

#[test]
fn a_thread_that_only_reads_makes_short_bursts() {
    let polling = patient();
    polling.long.store(true, Ordering::Relaxed);
    let mut tries = [0; 2];
    for (i, tries) in tries.iter_mut().enumerate() {
        polling.skip.store(0, Ordering::Relaxed);
        LAST.set(&polling);
        WROTE.set(i == 0);
        let mut round = Round::default();
        while polling.next(&mut round) == Next::Again {
            *tries += 1;
        }
    }
    assert_eq!(tries, [LONG_BURST, BURST]);
}

#[test]
fn an_end_that_is_not_alone_in_its_thread_makes_short_bursts() {
    let (polling, other) = (patient(), patient());
    failed(&polling, 7);
    answered(&polling, LONG_BURST);
    answered(&other, 1);
    assert_eq!(failed(&polling, 1), [BURST]);
    assert_eq!(failed(&polling, 1), [LONG_BURST]);
}
