use super::*;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::task::Wake;

const REQUEST: usize = 1_000;
const ANSWER: usize = 10_000;

fn connections(places: usize) -> Arc<Connections> {
    Connections::new(Limits { places, request: REQUEST, answer: ANSWER })
}

fn held(all: &Connections) -> usize {
    all.held.load(Ordering::Relaxed)
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A task, and how it is woken.
fn watched() -> (Arc<Woken>, Waker) {
    let woken = Arc::new(Woken::default());
    (woken.clone(), woken.into())
}

fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn call(connection: &Arc<Connection>, bytes: usize) -> Call {
    match poll(connection.call(bytes)) {
        Poll::Ready(Some(call)) => call,
        other => panic!("a call that may begin: {other:?}"),
    }
}

fn is_cut_off(connection: &Connection) -> bool {
    connection.check_writing(&Context::from_waker(Waker::noop())).is_err()
}

#[test]
fn the_connection_that_asked_nothing_for_longest_makes_room() {
    let all = connections(3);
    let [first, second, third] = [(); 3].map(|()| all.admit().unwrap());
    // The first asked since, the second is a WebSocket.
    drop(call(&first, 1));
    second.stays();
    let fourth = all.admit().unwrap();
    assert_eq!([&first, &second, &third].map(|it| is_cut_off(it)), [false, false, true]);
    assert_ne!(fourth.id(), third.id());

    // A call under way keeps the place, and so does an answer that is not taken.
    let asking = call(&first, 1);
    fourth.owes(1);
    assert!(all.admit().is_none());
    drop(asking);
    all.admit().unwrap();
    assert_eq!([&first, &second, &fourth].map(|it| is_cut_off(it)), [true, false, false]);
}

#[test]
fn who_is_sending_a_request_makes_room_last() {
    let all = connections(2);
    let [sends, idles] = [(); 2].map(|()| all.admit().unwrap());
    sends.read(5);
    all.admit().unwrap();
    assert_eq!([&sends, &idles].map(|it| is_cut_off(it)), [false, true]);
    let third = all.admit().unwrap();
    assert!(!is_cut_off(&sends) && !is_cut_off(&third));
    third.read(5);
    all.admit().unwrap();
    assert!(is_cut_off(&sends), "all send, and it came first");
}

#[test]
fn a_connection_that_leaves_gives_back_its_place_and_what_it_held() {
    let all = connections(1);
    let connection = all.admit().unwrap();
    connection.read(7);
    assert_eq!(held(&all), 7);
    let asked = call(&connection, 5);
    assert_eq!(held(&all), 5, "what was read is the request now");
    asked.answered(100);
    assert_eq!(held(&all), 100);
    connection.wrote(60, 0);
    assert_eq!(held(&all), 40);
    let late = call(&connection, 5);
    all.leave(&connection);
    assert_eq!(held(&all), 0);
    late.answered(1_000);
    connection.wrote(10, 0);
    assert_eq!(held(&all), 0, "nothing is held for who is gone");
    assert!(matches!(poll(connection.call(1)), Poll::Ready(None)));
    all.admit().unwrap();
}

#[test]
fn who_holds_most_is_cut_off_when_all_hold_too_much() {
    let all = connections(100);
    let most = all.limits.all();
    let connections: Vec<_> = (0..3).map(|_| all.admit().unwrap()).collect();
    connections[0].owes(most / 3);
    connections[1].owes(most / 2);
    let (woken, waker) = watched();
    assert!(connections[1].poll_reading(&Context::from_waker(&waker)).is_ready());
    connections[2].owes(most / 6 + 10);
    assert_eq!(
        connections.iter().map(|it| is_cut_off(it)).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert!(woken.0.load(Ordering::Relaxed), "its task must see that it is cut off");
    assert_eq!(held(&all), most / 3 + most / 6 + 10);
}

#[test]
fn a_request_that_is_not_whole_counts_up_to_the_longest() {
    let all = connections(100);
    let connection = all.admit().unwrap();
    connection.read(REQUEST - 1);
    assert_eq!(held(&all), REQUEST - 1);
    // The library refuses a longer one and keeps nothing of it.
    connection.read(REQUEST);
    assert_eq!(held(&all), REQUEST);
    // The refusal is written.
    connection.wrote(50, 0);
    assert_eq!(held(&all), 0);
}

#[test]
fn a_client_is_cut_off_that_takes_little_of_what_waits_for_two_looks() {
    let limits = Limits { places: 100, request: REQUEST, answer: 100 * LEAST_MOVED };
    let all = Connections::new(limits);
    let [idle, stuck, pings, slow, fast, steady, late] = [(); 7].map(|()| all.admit().unwrap());
    let open = [&idle, &stuck, &pings, &slow, &fast, &steady, &late];
    stuck.owes(5_000);
    // What the library writes by itself is not known before it is written.
    pings.stuck();
    for connection in [&slow, &fast, &late] {
        connection.owes(10 * LEAST_MOVED);
    }
    all.look();
    for round in 0..3 {
        slow.wrote(LEAST_MOVED - 1, 0);
        fast.wrote(LEAST_MOVED, 0);
        late.wrote(if round == 1 { LEAST_MOVED } else { 0 }, 0);
        // Takes little, but all there is.
        steady.owes(10);
        steady.wrote(20, 0);
        steady.owes(10);
        assert_eq!(
            open.map(|it| is_cut_off(it)),
            match round {
                0 | 1 => [false; 7],
                _ => [false, true, true, true, false, false, false],
            }
        );
        all.look();
    }
    assert_eq!(held(&all), fast.state.lock().held() + 10 + late.state.lock().held());
}

#[test]
fn a_client_is_cut_off_that_sends_its_request_in_drops() {
    let all = connections(100);
    let [drops, quiet, socket] = [(); 3].map(|()| all.admit().unwrap());
    quiet.read(10);
    drop(call(&quiet, 10));
    socket.stays();
    for _ in 0..3 {
        drops.read(1);
        socket.read(1);
        all.look();
    }
    let cut_off = [&drops, &quiet, &socket].map(|it| is_cut_off(it));
    assert_eq!(cut_off, [true, false, false]);
}

#[test]
fn a_batch_in_the_making_is_held() {
    let all = connections(100);
    let connection = all.admit().unwrap();
    let mut batch = call(&connection, 5);
    assert!(batch.grows(20) && batch.grows(30));
    assert_eq!(held(&all), 55);
    batch.answered(52);
    assert_eq!(held(&all), 52);
    let mut batch = call(&connection, 5);
    assert!(!batch.grows(all.limits.all()), "it holds most");
    drop(batch);
    assert_eq!(held(&all), 0);
}

#[test]
fn a_call_waits_until_enough_answers_are_taken() {
    let all = connections(100);
    let connection = all.admit().unwrap();
    call(&connection, 1).answered(ANSWER + 1);
    let mut waiting = pin!(connection.call(1));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    connection.wrote(1, 0);
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    connection.wrote(1, 0);
    assert!(matches!(waiting.as_mut().poll(&mut context), Poll::Ready(Some(_))));

    connection.owes(ANSWER);
    let mut waiting = pin!(connection.call(1));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    all.leave(&connection);
    assert!(matches!(waiting.as_mut().poll(&mut context), Poll::Ready(None)));
}

#[test]
fn calls_begin_as_far_as_their_answers_are_expected_to_have_room() {
    let all = connections(100);
    let connection = all.admit().unwrap();
    let begins = |connection: &Arc<Connection>| poll(connection.call(1)).is_ready();
    let first: Vec<_> = (0..FIRST_CALLS).map(|_| call(&connection, 1)).collect();
    assert!(!begins(&connection), "answers may be long");
    let mut waiting = pin!(connection.call(1));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    // They are short.
    first.into_iter().for_each(|call| call.answered(1));
    assert!(waiting.as_mut().poll(&mut context).is_ready());
    let many: Vec<_> = (0..10 * FIRST_CALLS).map(|_| call(&connection, 1)).collect();
    drop(many);

    // The next one is long, and then two fill what there is.
    call(&connection, 1).answered(ANSWER.div_ceil(3));
    let two = [(); 2].map(|()| call(&connection, 1));
    assert!(!begins(&connection));
    connection.wrote(ANSWER, 0);
    let third = call(&connection, 1);
    assert!(!begins(&connection));
    drop((two, third));
    assert!(begins(&connection));
}

#[test]
fn a_connection_with_many_messages_is_not_read() {
    let all = connections(100);
    let connection = all.admit().unwrap();
    let (woken, waker) = watched();
    let context = Context::from_waker(&waker);
    let socket = Messages::Request(connection.clone()).clone();
    for _ in 0..2 * MOST_MESSAGES {
        // It is none yet.
        _ = socket.clone();
    }
    connection.stays();
    for _ in 1..MOST_MESSAGES {
        // What is made of the message does not count again.
        _ = socket.clone().clone();
    }
    assert!(connection.poll_reading(&context).is_ready());
    connection.wrote(10, 1);
    assert!(!woken.0.load(Ordering::Relaxed), "nobody waited for that");
    connection.owes(1);
    _ = socket.clone();
    assert!(connection.poll_reading(&context).is_pending());
    connection.wrote(10, 0);
    assert!(!woken.0.load(Ordering::Relaxed));
    let less: [fn(&Connection); 3] =
        [|it| it.wrote(10, 1), Connection::ignored, |it| it.forgets(1)];
    for less in less {
        less(&connection);
        assert!(woken.0.swap(false, Ordering::Relaxed));
        assert!(connection.poll_reading(&context).is_ready());
        _ = socket.clone();
        assert!(connection.poll_reading(&context).is_pending());
    }
}

#[test]
fn a_websocket_whose_long_messages_wait_is_not_read() {
    let all = connections(100);
    let connection = all.admit().unwrap();
    let (woken, waker) = watched();
    let context = Context::from_waker(&waker);
    connection.stays();
    let socket = Messages::Request(connection.clone()).clone();
    // One message that is not whole, however long.
    connection.read(REQUEST);
    assert!(connection.poll_reading(&context).is_ready());
    // It is, and another one, and no call comes of either.
    _ = (socket.clone(), socket.clone());
    assert!(connection.poll_reading(&context).is_pending());
    assert_eq!(held(&all), REQUEST);
    connection.wrote(10, 1);
    assert!(connection.poll_reading(&context).is_pending());
    assert!(!woken.0.load(Ordering::Relaxed));
    connection.wrote(10, 1);
    assert!(woken.0.load(Ordering::Relaxed));
    assert!(connection.poll_reading(&context).is_ready());
    assert_eq!(held(&all), 0);
}
