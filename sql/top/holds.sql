-- How many keys and lanes are held, by stream. Not counted beyond 100,000, so that it is fast at any number.
SELECT coalesce(json_object_agg(s.stream, json_build_object('keys', s.keys, 'lanes', s.lanes)), '{}')::text
  FROM (SELECT h.stream, count(*) FILTER (WHERE h.scope = 'key') AS keys, count(*) FILTER (WHERE h.scope = 'lane') AS lanes
          FROM (SELECT o.stream, o.scope FROM :"schema".holds o LIMIT 100000) h
         GROUP BY h.stream) s
