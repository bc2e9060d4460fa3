// Node http server and client. usage: app.js serve PORT | app.js get HOST PORT N CONC KEEP
'use strict';
const http = require('http');
const net = require('net');
const crypto = require('crypto');
const [, , what, ...a] = process.argv;

function body(n) {
	const b = Buffer.alloc(n);
	for (let i = 0; i < n; i++)
		b[i] = (i * 7 + n) & 255;
	return b;
}

function die(e) {
	console.log('FAIL:', e && e.message ? e.message : e);
	process.exit(1);
}

if (what === 'serve') {
	const s = http.createServer((req, res) => {
		const url = new URL(req.url, 'http://x');
		if (url.pathname === '/who') {
			res.end(`${req.socket.remoteAddress} ${req.socket.localAddress} ${req.socket.localPort}\n`);
		} else if (url.pathname === '/sum') {
			const h = crypto.createHash('sha256');
			req.on('data', (d) => h.update(d)).on('end', () => res.end(h.digest('hex')));
		} else {
			res.end(body(Number(url.searchParams.get('n'))));
		}
	});
	s.listen(Number(a[0]), () => console.log('listening', s.address()));
	process.on('SIGTERM', () => {
		s.closeAllConnections();
		s.close(() => console.log('bye'));
	});
} else {
	const [host, port, n, conc, keep] = [a[0], Number(a[1]), Number(a[2]), Number(a[3]), a[4] === 'keep'];
	const agent = keep ? new http.Agent({ keepAlive: true, maxSockets: conc }) : false;
	const sockets = new Set();
	let next = 0;
	let done = 0;

	const finish = () => {
		const big = body(3000000);
		const req = http.request({ host, port, method: 'POST', path: '/sum', agent }, (res) => {
			let s = '';
			res.on('data', (d) => { s += d; }).on('end', () => {
				if (s !== crypto.createHash('sha256').update(big).digest('hex'))
					die('wrong sum');
				// refused must come out as such
				net.connect(9, host).on('connect', () => die('port 9 is open')).on('error', (e) => {
					if (e.code !== 'ECONNREFUSED')
						die(e);
					console.log(`ok ${done} ${sockets.size}`);
					if (agent)
						agent.destroy();
				});
			});
		});
		// Node flushes with an empty write at the end. If the server has read all, answered and closed by
		// then, that is EPIPE on a UNIX socket and 0 on TCP: the documented difference
		// "after-peer-close". The answer is here, and its sum is checked all the same.
		req.on('error', (e) => {
			if (e.code !== 'EPIPE' || !req.res)
				die(e);
		}).end(big);
	};

	const one = () => {
		if (next >= n)
			return;
		const size = (++next * 977) % 70000;
		http.get({ host, port, path: `/?n=${size}`, agent }, (res) => {
			const parts = [];
			res.on('data', (d) => parts.push(d)).on('end', () => {
				if (!Buffer.concat(parts).equals(body(size)))
					die('content differs');
				if (++done === n)
					finish();
				else
					one();
			});
		}).on('socket', (s) => sockets.add(s)).on('error', die);
	};
	for (let i = 0; i < conc; i++)
		one();
}
