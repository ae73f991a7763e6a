import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a topic with Java's own consumer and says where Java's own partitioner would have put each
 * key. Arguments: brokers, topic. Output: one line per record with partition, Java's partition (-1
 * without a key), timestamp, key, value, and name and value of each header; bytes in base64, "-"
 * for null.
 */
public class KafkaJudge {
  public static void main(String[] arguments) {
    Map<String, Object> settings =
        Map.of("bootstrap.servers", arguments[0], "enable.auto.commit", "false");
    StringBuilder out = new StringBuilder();
    try (var consumer =
        new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      List<TopicPartition> partitions = new ArrayList<>();
      consumer
          .partitionsFor(arguments[1])
          .forEach(each -> partitions.add(new TopicPartition(each.topic(), each.partition())));
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
      while (partitions.stream().anyMatch(each -> consumer.position(each) < ends.get(each))) {
        for (var record : consumer.poll(Duration.ofSeconds(1))) {
          append(out, record, partitions.size());
        }
      }
    }
    System.out.print(out);
  }

  private static void append(
      StringBuilder out, ConsumerRecord<byte[], byte[]> record, int partitions) {
    int javas =
        record.key() == null
            ? -1
            : BuiltInPartitioner.partitionForKey(record.key(), partitions);
    out.append(record.partition()).append(' ').append(javas);
    out.append(' ').append(record.timestamp());
    out.append(' ').append(text(record.key())).append(' ').append(text(record.value()));
    for (Header header : record.headers()) {
      out.append(' ').append(text(header.key().getBytes(StandardCharsets.UTF_8)));
      out.append(' ').append(text(header.value()));
    }
    out.append('\n');
  }

  /** Never empty, so that words can be split at spaces. */
  private static String text(byte[] bytes) {
    return bytes == null ? "-" : "b" + Base64.getEncoder().encodeToString(bytes);
  }
}
