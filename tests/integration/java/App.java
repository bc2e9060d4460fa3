import com.sun.net.httpserver.HttpServer;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.ConnectException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Arrays;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;

/**
 * Server and client of java.sh: HttpServer, HttpClient, blocking sockets and NIO.
 * usage: App serve | App get HOST N
 */
public final class App {
	static byte[] body(int n) {
		byte[] b = new byte[n];
		for (int i = 0; i < n; i++)
			b[i] = (byte) (i * 7 + n);
		return b;
	}

	static void check(boolean ok, String what) {
		if (!ok)
			throw new IllegalStateException(what);
	}

	/** HTTP on 80; on 7 an echo with NIO that answers after the client's half close. */
	static void serve() throws Exception {
		HttpServer s = HttpServer.create(new InetSocketAddress(80), 100);
		s.setExecutor(Executors.newFixedThreadPool(8));
		s.createContext("/who", x -> {
			byte[] b = (x.getRemoteAddress().getAddress().getHostAddress() + " "
				+ x.getLocalAddress().getAddress().getHostAddress() + " "
				+ x.getLocalAddress().getPort() + "\n").getBytes();
			x.sendResponseHeaders(200, b.length);
			x.getResponseBody().write(b);
			x.close();
		});
		s.createContext("/bytes", x -> {
			byte[] b = body(Integer.parseInt(x.getRequestURI().getQuery()));
			x.sendResponseHeaders(200, b.length == 0 ? -1 : b.length);
			x.getResponseBody().write(b);
			x.close();
		});
		s.start();
		Selector sel = Selector.open();
		ServerSocketChannel ls = ServerSocketChannel.open();
		ls.bind(new InetSocketAddress(7));
		ls.configureBlocking(false);
		ls.register(sel, SelectionKey.OP_ACCEPT);
		System.out.println("listening");
		while (true) {
			sel.select();
			for (var it = sel.selectedKeys().iterator(); it.hasNext();) {
				SelectionKey k = it.next();
				it.remove();
				if (k.isAcceptable()) {
					SocketChannel c = ls.accept();
					if (c == null)
						continue;
					c.configureBlocking(false);
					c.register(sel, SelectionKey.OP_READ, ByteBuffer.allocate(100000));
				} else {
					SocketChannel c = (SocketChannel) k.channel();
					ByteBuffer b = (ByteBuffer) k.attachment();
					if (c.read(b) < 0) {
						k.cancel();
						c.configureBlocking(true);
						b.flip();
						while (b.hasRemaining())
							c.write(b);
						c.close();
					}
				}
			}
		}
	}

	static void get(String host, int n) throws Exception {
		HttpClient cl = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
		String at = "http://" + (host.contains(":") ? "[" + host + "]" : host);
		for (int round = 0; round < n / 20; round++) {
			CompletableFuture<?>[] all = new CompletableFuture<?>[20];
			for (int i = 0; i < 20; i++) {
				int size = (round * 20 + i) * 977 % 70000;
				all[i] = cl.sendAsync(HttpRequest.newBuilder(URI.create(at + "/bytes?" + size)).build(),
					HttpResponse.BodyHandlers.ofByteArray()).thenAccept(r ->
						check(Arrays.equals(r.body(), body(size)), "content differs"));
			}
			CompletableFuture.allOf(all).join();
		}
		// Blocking sockets, half close, and shutdownInput, which must not hurt the peer.
		for (int i = 0; i < n / 4; i++) {
			byte[] b = body(i * 131 % 50000);
			try (Socket s = new Socket(host, 7)) {
				s.setTcpNoDelay(true);
				s.setSoTimeout(20000);
				check(s.getTcpNoDelay() && s.getPort() == 7, "options");
				OutputStream o = s.getOutputStream();
				o.write(b);
				s.shutdownOutput();
				InputStream in = s.getInputStream();
				check(Arrays.equals(in.readAllBytes(), b), "echo differs");
			}
		}
		// NIO: non-blocking connect registered with the selector before it is made.
		Selector sel = Selector.open();
		for (int i = 0; i < n / 4; i++) {
			SocketChannel c = SocketChannel.open();
			c.configureBlocking(false);
			SelectionKey k = c.register(sel, SelectionKey.OP_CONNECT);
			boolean now = c.connect(new InetSocketAddress(host, 7));
			while (!now) {
				check(sel.select(20000) == 1, "no connect event");
				sel.selectedKeys().clear();
				now = c.finishConnect();
			}
			byte[] b = body(i * 17 % 9000 + 1);
			ByteBuffer w = ByteBuffer.wrap(b);
			ByteBuffer r = ByteBuffer.allocate(10000);
			k.interestOps(SelectionKey.OP_WRITE);
			boolean eof = false;
			while (!eof) {
				check(sel.select(20000) == 1, "no event");
				sel.selectedKeys().clear();
				if (w.hasRemaining()) {
					c.write(w);
					if (!w.hasRemaining()) {
						c.shutdownOutput();
						k.interestOps(SelectionKey.OP_READ);
					}
				} else {
					eof = c.read(r) < 0;
				}
			}
			check(Arrays.equals(Arrays.copyOf(r.array(), r.position()), b), "NIO echo differs");
			c.close();
			sel.selectNow();
		}
		try (Socket s = new Socket(host, 9)) {
			throw new IllegalStateException("port 9 is open");
		} catch (ConnectException e) {
			check(e.getMessage().contains("refused"), e.getMessage());
		}
		System.out.println("ok " + n);
	}

	public static void main(String[] a) throws Exception {
		if (a[0].equals("serve"))
			serve();
		get(a[1], Integer.parseInt(a[2]));
		System.exit(0);
	}
}
