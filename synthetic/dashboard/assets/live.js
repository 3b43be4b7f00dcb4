// The stream of changes. The browser's EventSource reconnects by itself and
// says where it was; where it gives up, or nothing is heard for longer than
// two heartbeats, a new one is made.

const silence = 35_000; // milliseconds; the server beats every 15 s

/** follow calls onState with whole states, onPatch with changes, onLive with live or lost. */
export function follow(since, { onState, onPatch, onLive }) {
  let source, watchdog, tries = 0;
  let last = since;

  const heard = (event) => {
    if (event?.lastEventId) last = event.lastEventId;
    tries = 0;
    onLive('live');
    clearTimeout(watchdog);
    watchdog = setTimeout(reopen, silence);
  };
  const open = () => {
    source = new EventSource(`dashboard/events?since=${encodeURIComponent(last)}`);
    source.addEventListener('open', heard);
    source.addEventListener('beat', heard);
    source.addEventListener('state', (event) => { heard(event); onState(JSON.parse(event.data)); });
    source.addEventListener('patch', (event) => { heard(event); onPatch(JSON.parse(event.data)); });
    source.addEventListener('error', () => {
      onLive('lost');
      if (source.readyState === EventSource.CLOSED) later();
    });
  };
  const reopen = () => {
    onLive('lost');
    source.close();
    open();
  };
  const later = () => {
    clearTimeout(watchdog);
    const wait = Math.min(30_000, 1000 * 2 ** tries++);
    watchdog = setTimeout(reopen, wait * (0.5 + Math.random() / 2));
  };
  open();
}
