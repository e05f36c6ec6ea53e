// Looks at a cluster with Kafka's own client, which shares no code with Weir's: what a read-committed reader is shown.
//
//   java -cp JARS Checker.java read BROKERS TOPIC,…       every committed record, then what is still open, and ends
//   java -cp JARS Checker.java follow BROKERS TOPIC,…     committed records as they come, until stdin ends
//   java -cp JARS Checker.java open BROKERS TOPIC PARTITION ID TIMEOUT_MS KEY VALUE    (key and value in hex)
//       writes the record in a transaction of its own, says "open", and commits it never: kill it, or end its stdin
//   java -cp JARS Checker.java abort BROKERS TOPIC PARTITION ID TIMEOUT_MS KEY VALUE    the same, aborted
//
// A record is one line: topic, partition, offset, key, value, with tabs between; bytes in hex, "-" for null. A partition
// whose last stable offset is behind its end (a transaction is open): "open", topic, partition, both offsets.
import java.io.BufferedOutputStream;
import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

class Checker {
    static final PrintStream OUT = new PrintStream(new BufferedOutputStream(System.out, 1 << 16));
    static final HexFormat HEX = HexFormat.of();

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "read" -> read(args[1], args[2], new AtomicBoolean(true));
            case "follow" -> {
                AtomicBoolean ends = new AtomicBoolean();
                Thread ear = new Thread(() -> {
                    untilStdinEnds();
                    ends.set(true);
                });
                ear.setDaemon(true);
                ear.start();
                read(args[1], args[2], ends);
            }
            case "open", "abort" -> transaction(args);
            default -> throw new IllegalArgumentException(args[0]);
        }
        OUT.flush();
    }

    static void read(String brokers, String topics, AtomicBoolean ends) {
        try (var consumer = consumer(brokers, "read_committed"); var bare = consumer(brokers, "read_uncommitted")) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (String topic : topics.split(",")) {
                for (var found : consumer.partitionsFor(topic)) {
                    partitions.add(new TopicPartition(topic, found.partition()));
                }
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> end = null;
            while (end == null || behind(consumer, end)) {
                if (end == null && ends.get()) {
                    end = consumer.endOffsets(partitions);
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    OUT.print(record.topic() + '\t' + record.partition() + '\t' + record.offset() + '\t');
                    OUT.print(hex(record.key()) + '\t' + hex(record.value()) + '\n');
                }
                OUT.flush();
            }
            Map<TopicPartition, Long> written = bare.endOffsets(partitions);
            Map<TopicPartition, Long> stable = consumer.endOffsets(partitions);
            for (TopicPartition p : partitions) {
                if (stable.get(p) < written.get(p)) {
                    OUT.println("open\t" + p.topic() + '\t' + p.partition() + '\t' + stable.get(p) + '\t' + written.get(p));
                }
            }
        }
    }

    static boolean behind(KafkaConsumer<byte[], byte[]> consumer, Map<TopicPartition, Long> end) {
        return end.entrySet().stream().anyMatch(e -> consumer.position(e.getKey()) < e.getValue());
    }

    static void transaction(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[1]);
        p.put("transactional.id", args[4]);
        p.put("transaction.timeout.ms", args[5]);
        p.put("max.block.ms", "60000");
        var bytes = new ByteArraySerializer();
        var producer = new KafkaProducer<byte[], byte[]>(p, bytes, bytes);
        producer.initTransactions();
        producer.beginTransaction();
        byte[] key = HEX.parseHex(args[6]);
        producer.send(new ProducerRecord<>(args[2], Integer.parseInt(args[3]), key, HEX.parseHex(args[7]))).get();
        if (args[0].equals("abort")) {
            producer.abortTransaction();
            producer.close();
            OUT.println("aborted");
            return;
        }
        OUT.println("open");
        OUT.flush();
        untilStdinEnds();
        Runtime.getRuntime().halt(0); // without a word to the broker
    }

    static KafkaConsumer<byte[], byte[]> consumer(String brokers, String isolation) {
        Properties p = new Properties();
        p.put("bootstrap.servers", brokers);
        p.put("isolation.level", isolation);
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "none");
        p.put("max.poll.records", "5000");
        var bytes = new ByteArrayDeserializer();
        return new KafkaConsumer<>(p, bytes, bytes);
    }

    static void untilStdinEnds() {
        try {
            while (System.in.read() >= 0) {
            }
        } catch (java.io.IOException ended) {
            // so has it
        }
    }

    static String hex(byte[] bytes) {
        return bytes == null ? "-" : HEX.formatHex(bytes);
    }
}
