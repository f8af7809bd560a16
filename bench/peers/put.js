// put.js: what both peers do for a job: one PUT to PEMS over a connection that is kept alive, and one
// UPDATE that records the answer.
'use strict';
const http = require('node:http');

const base = new URL(process.env.PEMS_URL);
const concurrency = Number(process.env.CONCURRENCY);
const agent = new http.Agent({ keepAlive: true, maxSockets: concurrency });

// Resolves to the parsed answer; rejects unless PEMS says that it has done it.
function put(id, body) {
  const text = JSON.stringify(body);
  const options = {
    agent, hostname: base.hostname, port: base.port, method: 'PUT', path: `${base.pathname}/pems/pfa/${body.pfaId}`,
    headers: {
      Authorization: `Bearer ${process.env.TOKEN}`, 'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(text), 'Idempotency-Key': `${id}:${body.version}`, 'X-Request-Id': `${id}:1`,
    },
  };
  return new Promise((resolve, reject) => {
    const request = http.request(options, (response) => {
      let answer = '';
      response.setEncoding('utf8');
      response.on('data', (chunk) => { answer += chunk; });
      response.on('end', () => {
        if (response.statusCode !== 200) return reject(new Error(`${response.statusCode}: ${answer}`));
        resolve(JSON.parse(answer));
      });
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(text);
  });
}

// A named statement is parsed once per connection.
const record = (id, answer) => ({
  name: 'record',
  text: `UPDATE bench.edit SET status = 'synced', new_version = $2 WHERE id = $1`,
  values: [id, answer.newVersion],
});

module.exports = { put, record, concurrency };
