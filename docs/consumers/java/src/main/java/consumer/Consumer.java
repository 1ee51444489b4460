package consumer;

import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import mendloop.v1.Evaluation.EvalFailed;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Prints each EvalFailed as it is committed: KAFKA_BOOTSTRAP=broker:9092 KAFKA_GROUP=my-team. */
public final class Consumer {
  private Consumer() {}

  public static void main(String[] arguments) throws Exception {
    Map<String, String> given = System.getenv();
    Map<String, Object> settings =
        Map.of(
            "bootstrap.servers", given.get("KAFKA_BOOTSTRAP"),
            "group.id", given.get("KAFKA_GROUP"),
            // Services publish in transactions: what was rolled back is no event.
            "isolation.level", "read_committed",
            "auto.offset.reset", "earliest",
            "enable.auto.commit", "false");
    int left = Integer.parseInt(given.getOrDefault("STOP_AFTER", "0"));
    try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
      consumer.subscribe(List.of(given.getOrDefault("KAFKA_TOPIC", "mendloop.eval-failed.v1")));
      while (true) {
        for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
          System.out.println(line(record));
          if (--left == 0) {
            consumer.commitSync();
            return;
          }
        }
        consumer.commitSync(); // after the work: an event comes at least once, its ce_id tells a repetition
      }
    }
  }

  private static String line(ConsumerRecord<String, byte[]> record) throws Exception {
    EvalFailed event = EvalFailed.parseFrom(record.value());
    String id = new String(record.headers().lastHeader("ce_id").value());
    String where =
        event.getSlice().getConditionsList().stream()
            .map(part -> part.getAxis() + "=" + part.getValue())
            .collect(Collectors.joining(","));
    var accuracy = event.getAccuracy();
    return String.format(
        Locale.ROOT,
        "EvalFailed id=%s run=%s slice=%s accuracy=%d/%d low=%.3f high=%.3f",
        id, event.getPosition().getRunId(), where,
        accuracy.getCorrect(), accuracy.getN(), accuracy.getLow(), accuracy.getHigh());
  }
}
