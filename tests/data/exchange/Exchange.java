// Exchanges bytes both ways at once over TLS 1.3 by Java's SSLSocket; the protocol is told in tests/src/exchange.
//
//   Exchange client ADDRESS NAME AUTHORITY [ALPN,…]   plans on standard input, one a line: seed up down closing
//   Exchange server ADDRESS CERTIFICATE KEY           says "listening PORT" first
//
// Either says a line for each connection: its seed, then "ok" or what went wrong. Not TLS 1.2, in which Java answers
// a close_notify by its own and drops what it had still to send.

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Scanner;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

final class Exchange {
    static final int CLIENT_FIRST = 1, SERVER_FIRST = 2, SERVER_AFTER_ALL = 3, CLIENT_AFTER_ALL = 4;
    static final int BLOCK = 64 * 1024, LIMIT_MS = 120_000, CONNECTIONS_AT_ONCE = 8;

    record Plan(long seed, long up, long down, int closing) {}

    static long word(long seed, long index) {
        long z = seed + (index + 1) * 0x9e3779b97f4a7c15L;
        z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
        z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
        return z ^ (z >>> 31);
    }

    /** Writes the bytes that begin at an offset of what a seed makes. */
    static void fill(byte[] to, int length, long seed, long offset) {
        int at = 0;
        for (; at < length && (offset + at) % 8 != 0; at++) {
            to[at] = (byte) (word(seed, (offset + at) / 8) >>> (8 * ((offset + at) % 8)));
        }
        ByteBuffer words = ByteBuffer.wrap(to).order(ByteOrder.LITTLE_ENDIAN);
        for (; at + 8 <= length; at += 8) {
            words.putLong(at, word(seed, (offset + at) / 8));
        }
        for (; at < length; at++) {
            to[at] = (byte) (word(seed, (offset + at) / 8) >>> (8 * ((offset + at) % 8)));
        }
    }

    static void send(OutputStream to, long seed, long length) throws IOException {
        byte[] buffer = new byte[BLOCK];
        for (long offset = 0; offset < length; ) {
            // Pieces of all sizes, from one byte to a block.
            long most = 1L << Long.remainderUnsigned(word(seed, offset), 17);
            long size = 1 + Long.remainderUnsigned(word(seed, ~offset), most);
            int piece = (int) Math.min(Math.min(size, BLOCK), length - offset);
            fill(buffer, piece, seed, offset);
            to.write(buffer, 0, piece);
            offset += piece;
        }
        to.flush();
    }

    /** Holds what comes against what a seed makes, to the end, and tells when all of it is there. */
    static void receive(InputStream from, long seed, long length, CountDownLatch all) throws IOException {
        byte[] buffer = new byte[BLOCK], want = new byte[BLOCK];
        for (long offset = 0; ; ) {
            if (offset == length) {
                all.countDown();
            }
            int count = from.read(buffer);
            if (count < 0) {
                if (offset < length) {
                    throw new EOFException("only " + offset + " of " + length + " bytes came");
                }
                return;
            }
            fill(want, count, seed, offset);
            if (offset + count > length || !Arrays.equals(buffer, 0, count, want, 0, count)) {
                throw new IOException("other bytes than were sent behind byte " + offset + " of " + length);
            }
            offset += count;
        }
    }

    static void exchange(SSLSocket socket, Plan plan, boolean isClient) throws Exception {
        long mine = isClient ? plan.seed : ~plan.seed;
        long out = isClient ? plan.up : plan.down, in = isClient ? plan.down : plan.up;
        boolean waitsForEnd = isClient
            ? plan.closing == SERVER_FIRST || plan.closing == SERVER_AFTER_ALL
            : plan.closing == CLIENT_FIRST || plan.closing == CLIENT_AFTER_ALL;
        boolean waitsForAll = plan.closing == (isClient ? CLIENT_AFTER_ALL : SERVER_AFTER_ALL);
        CountDownLatch all = new CountDownLatch(1), end = new CountDownLatch(1);
        FutureTask<Void> sending = new FutureTask<>(() -> {
            send(socket.getOutputStream(), mine, out);
            if (waitsForEnd) {
                end.await();
            }
            if (waitsForAll) {
                all.await();
            }
            socket.shutdownOutput();
            return null;
        });
        new Thread(sending).start();
        try {
            receive(socket.getInputStream(), ~mine, in, all);
        } finally {
            all.countDown();
            end.countDown();
        }
        sending.get();
    }

    static void say(long seed, Throwable fault) {
        String words = fault == null ? "ok" : fault.toString().replace('\n', ' ');
        System.out.println(Long.toUnsignedString(seed) + " " + words);
        System.out.flush();
    }

    static InetSocketAddress address(String text) throws IOException {
        int colon = text.lastIndexOf(':');
        String host = text.substring(0, colon).replaceAll("[\\[\\]]", "");
        return new InetSocketAddress(InetAddress.getByName(host), Integer.parseInt(text.substring(colon + 1)));
    }

    static void call(SSLContext context, InetSocketAddress to, String name, String[] protocols, Plan plan) {
        try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket()) {
            var parameters = socket.getSSLParameters();
            parameters.setServerNames(List.of(new SNIHostName(name)));
            parameters.setApplicationProtocols(protocols);
            parameters.setProtocols(new String[] {"TLSv1.3"});
            socket.setSSLParameters(parameters);
            socket.setSoTimeout(LIMIT_MS);
            socket.connect(to, LIMIT_MS);
            var header = new DataOutputStream(socket.getOutputStream());
            var bytes = ByteBuffer.allocate(32).putLong(plan.seed).putLong(plan.up).putLong(plan.down);
            header.write(bytes.putLong(plan.closing).array());
            exchange(socket, plan, true);
            say(plan.seed, null);
        } catch (Exception fault) {
            say(plan.seed, fault);
        }
    }

    static void client(String to, String name, String authority, String[] protocols) throws Exception {
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        trusted.setCertificateEntry("authority", certificates(authority)[0]);
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        InetSocketAddress address = address(to);
        ExecutorService callers = Executors.newFixedThreadPool(CONNECTIONS_AT_ONCE);
        for (Scanner plans = new Scanner(System.in); plans.hasNext(); ) {
            long seed = Long.parseUnsignedLong(plans.next());
            Plan plan = new Plan(seed, plans.nextLong(), plans.nextLong(), plans.nextInt());
            callers.execute(() -> call(context, address, name, protocols, plan));
        }
        callers.shutdown();
        callers.awaitTermination(1, TimeUnit.HOURS);
    }

    static void answer(SSLSocket socket) {
        long seed = 0;
        try (socket) {
            socket.setSoTimeout(LIMIT_MS);
            var header = new DataInputStream(socket.getInputStream());
            seed = header.readLong();
            exchange(socket, new Plan(seed, header.readLong(), header.readLong(), (int) header.readLong()), false);
            say(seed, null);
        } catch (Exception fault) {
            say(seed, fault);
        }
    }

    static void server(String at, String certificate, String key) throws Exception {
        String pem = Files.readString(Path.of(key)).replaceAll("-----[A-Z ]+-----|\\s", "");
        var own = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(pem)));
        KeyStore keys = KeyStore.getInstance("PKCS12");
        keys.load(null, null);
        keys.setKeyEntry("own", own, new char[0], certificates(certificate));
        var managers = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        managers.init(keys, new char[0]);
        SSLContext context = SSLContext.getInstance("TLSv1.3");
        context.init(managers.getKeyManagers(), null, null);
        var listener = (SSLServerSocket) context.getServerSocketFactory().createServerSocket();
        listener.bind(address(at), 128);
        System.out.println("listening " + listener.getLocalPort());
        System.out.flush();
        while (true) {
            SSLSocket socket = (SSLSocket) listener.accept();
            new Thread(() -> answer(socket)).start();
        }
    }

    static Certificate[] certificates(String path) throws Exception {
        try (InputStream from = new FileInputStream(path)) {
            var found = CertificateFactory.getInstance("X.509").generateCertificates(from);
            return found.toArray(new Certificate[0]);
        }
    }

    public static void main(String[] words) throws Exception {
        if (words.length >= 4 && words[0].equals("client")) {
            client(words[1], words[2], words[3], words.length > 4 ? words[4].split(",") : new String[0]);
        } else if (words.length == 4 && words[0].equals("server")) {
            server(words[1], words[2], words[3]);
        } else {
            System.err.println("Exchange client ADDRESS NAME AUTHORITY [ALPN,…] | Exchange server ADDRESS CERTIFICATE KEY");
            System.exit(2);
        }
    }
}
