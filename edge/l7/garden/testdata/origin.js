// An origin that writes down, a line each, what requests it sees, and what it
// refuses. It says "port N" first.
const http = require('http');
const crypto = require('crypto');
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const server = http.createServer({ maxHeaderSize: 1 << 20 }, (q, a) => {
  const body = [];
  q.on('data', (d) => body.push(d));
  q.on('error', () => {});
  q.on('end', () => {
    const all = Buffer.concat(body);
    const digest = all.length + '-' + crypto.createHash('sha256').update(all).digest('hex').slice(0, 16);
    const raw = [];
    for (let i = 0; i < q.rawHeaders.length; i += 2) raw.push([q.rawHeaders[i], q.rawHeaders[i + 1]]);
    say({ Method: q.method, Target: q.url, Fields: raw, Digest: digest });
    const m = /(one|two|three|smuggled|canary)-(\d{6})/.exec(q.url);
    a.setHeader('X-Seen', m ? m[0] : '-');
    a.setHeader('X-Digest', digest);
    a.end(digest + '\n');
  });
});
server.keepAliveTimeout = 120000;
server.requestTimeout = 0;
server.on('clientError', (e, s) => {
  // HPE_INVALID_EOF_STATE: the gateway has given up a request halfway.
  if (!['ECONNRESET', 'EPIPE', 'HPE_INVALID_EOF_STATE'].includes(e.code)) say({ Refused: e.code + ' ' + (e.rawPacket || '').toString('latin1').slice(0, 300) });
  s.destroy();
});
server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
