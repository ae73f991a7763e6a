-- How many entries were delivered in ten seconds, by stream, as the receipts tell. The last second is left out,
-- since settles of it may not have committed yet.
SELECT coalesce(json_object_agg(s.stream, s.entries), '{}')::text
  FROM (SELECT r.stream, sum(r.entries) AS entries
          FROM :"schema".receipts r
         WHERE r.delivered_at >= statement_timestamp() - interval '11 seconds'
           AND r.delivered_at < statement_timestamp() - interval '1 second'
         GROUP BY r.stream) s
