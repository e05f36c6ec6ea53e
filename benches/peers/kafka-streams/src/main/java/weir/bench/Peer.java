package weir.bench;

import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;

/**
 * The peer: the three steps of examples/orders in Kafka Streams, exactly once.
 *
 * <p>{@code Peer tree|bytes BROKERS APPLICATION INPUT OUTPUT STATE-FOLDER}. {@code tree} parses once and hands the tree from
 * step to step; {@code bytes} takes and gives bytes at each step, as a step of Weir does. It ends when its standard input
 * does.
 */
public final class Peer {
    private Peer() {}

    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[1]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[2]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[5]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put("auto.offset.reset", "earliest");

        StreamsBuilder builder = new StreamsBuilder();
        if (args[0].equals("tree")) {
            tree(builder, args[3], args[4]);
        } else {
            bytes(builder, args[3], args[4]);
        }
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        CountDownLatch end = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(e -> {
            e.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        streams.start();
        Thread stop = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (java.io.IOException e) {
                // the other end is gone: the same
            }
            end.countDown();
        });
        stop.setDaemon(true);
        stop.start();
        end.await();
        streams.close();
    }

    private static void tree(StreamsBuilder builder, String input, String output) {
        Serde<com.fasterxml.jackson.databind.node.ObjectNode> json =
                Serdes.serdeFrom((topic, tree) -> Json.write(tree), (topic, bytes) -> Json.read(bytes));
        builder.stream(input, Consumed.with(Serdes.ByteArray(), json))
                .mapValues(Orders::check)
                .mapValues(Orders::price)
                .mapValues(Orders::tier)
                .to(output, Produced.with(Serdes.ByteArray(), json));
    }

    private static void bytes(StreamsBuilder builder, String input, String output) {
        KStream<byte[], byte[]> orders =
                builder.stream(input, Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()));
        orders.mapValues(order -> Json.write(Orders.check(Json.read(order))))
                .mapValues(order -> Json.write(Orders.price(Json.read(order))))
                .mapValues(order -> Json.write(Orders.tier(Json.read(order))))
                .to(output, Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
    }
}
