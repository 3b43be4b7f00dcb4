// A server of HTTP/2 without TLS that takes a WebSocket by extended CONNECT and
// says in capitals what it hears. It ends with its standard input.
'use strict';
const http2 = require('http2');

const server = http2.createServer({ settings: { enableConnectProtocol: process.argv[2] === 'takes' } });
server.on('stream', (stream, head) => {
  stream.on('error', () => {});
  if (head[':method'] !== 'CONNECT' || head[':protocol'] !== 'websocket' || head[':path'] !== '/chat' ||
      head['sec-websocket-version'] !== '13' || head['sec-websocket-key'] || head.upgrade || head['content-length']) {
    stream.respond({ ':status': 400 });
    stream.end(JSON.stringify(head));
    return;
  }
  if (head['sec-websocket-protocol'] === 'none') {
    stream.respond({ ':status': 403 }, { endStream: true });
    return;
  }
  stream.respond({ ':status': 200, 'sec-websocket-protocol': 'chat' });
  stream.write('first\n');
  stream.on('data', (b) => stream.write(String(b).toUpperCase()));
  stream.on('end', () => stream.end('last\n'));
});
server.listen(0, '127.0.0.1', () => console.log('port', server.address().port));
process.stdin.resume().on('end', () => process.exit());
